"""Processor, memory, disk, network and GPU while a stage runs, by MLflow's own monitor; off unless it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any


class SystemMetrics:
    """Samples the machine beside the training, from a thread of MLflow's.

    Parameters
    ----------
    uri : str
        Tracking server.
    report : callable
        Prints a line.
    """

    def __init__(self, uri: str, report: Callable[[str], None]) -> None:
        self._uri, self._report = uri, report
        self._monitor: Any = None
        self._warned = False

    def start(self, run: str | None) -> None:
        """Begin to log to a run; without psutil, or without a run, a line says that nothing is sampled."""
        missing = [
            *(["the package psutil is missing"] if importlib.util.find_spec("psutil") is None else []),
            *(["the tracking server does not answer"] if run is None else []),
        ]
        if missing:
            if not self._warned:
                self._report(f"warning: no system metrics: {' and '.join(missing)}")
            self._warned = True
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(run, tracking_uri=self._uri)
        self._monitor.start()

    def finish(self) -> None:
        """Stop, and log what was sampled last."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.finish()
