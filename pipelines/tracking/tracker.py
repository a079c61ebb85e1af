"""MLflow tracking: one parent run per pipeline, a nested run per stage that did work.

Importing MLflow takes seconds and its first connection migrates a database, so both wait until a stage has work to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from feature_store.tables.json_files import digest_of, write_json
from pipelines.config.run import describe
from pipelines.tracking.calls import Call, flatten
from pipelines.tracking.client import experiment_location
from pipelines.tracking.offline_queue import OfflineQueue
from pipelines.tracking.system_metrics import SystemMetrics
from pipelines.workspace.artifacts import ArtifactError, read_json
from pipelines.workspace.manifest import MadeFrom

if TYPE_CHECKING:
    from pipelines.workspace.context import RunContext, StageContext

_LOGGED_FILES = (
    *("report.html", "metrics.json", "training.json", "summary.json", "registration.json", "next_item.json"),
    *("prove.html", "prove.json", "sweep.html", "sweep.json", "monitor.html", "monitor.json"),
)
_REPORT = ("report.html", "metrics.json")  # shown at the pipeline's run too
_MOST_METRICS = 1000  # kept before they are sent
_SECONDS_BETWEEN_FLUSHES = 10.0
OPEN_RUN = ".open_run.json"


class Tracker:
    """Logs a pipeline to MLflow.

    A server that does not answer costs neither the night's training nor its log, see
    :class:`pipelines.tracking.offline_queue.OfflineQueue`. (The stage ``register`` needs the registry and fails without it.)

    Parameters
    ----------
    uri : str
        Tracking server.
    workspace : Path
        Keeps the key of the open parent run, which a killed run is continued under, and calls that wait for the server.
    report : callable
        Prints a line.
    """

    def __init__(self, uri: str, workspace: Path, report: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._queue = OfflineQueue(uri, workspace, report)
        self._system = SystemMetrics(uri, report)
        self._experiment = ""
        self._pipeline_run: str | None = None
        self._stage: str | None = None
        self._told: set[str] = set()  # datasets of the pipeline's run
        self._metrics: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()

    def begin(self, run: RunContext, stage: str, made_from: MadeFrom, fingerprint: str) -> None:
        """Open the run of a stage, and the pipeline's before the first of them."""
        if self._pipeline_run is None:
            self._open_pipeline_run(run)
        datasets = _datasets(run, made_from)
        tags = {"stage": stage, "fingerprint": fingerprint}
        tags |= {f"input.{name}": str(one.fingerprint or one.digest) for name, one in made_from.inputs.items()}
        tags |= {"data.digest": datasets[0]["digest"]} if datasets else {}
        new = [one for one in datasets if one["name"] not in self._told]
        self._told |= {one["name"] for one in new}
        if new:
            self._try(self._call("tags", self._pipeline_run, tags={"data.digest": datasets[0]["digest"]}))
            self._try(self._call("datasets", self._pipeline_run, datasets=new))
        self._stage = uuid4().hex
        facts = {"location": None, "parent": self._pipeline_run, "name": stage, "tags": tags, "parameters": flatten(made_from.config)}
        self._try(self._call("open", self._stage, time=_now(), **facts))
        if datasets:
            self._try(self._call("datasets", self._stage, datasets=datasets))
        if run.config.tracking.system_metrics:
            self._system.start(self.stage)

    @property
    def stage(self) -> str | None:
        """MLflow's id of the running stage's run; None where the server does not answer."""
        return None if self._stage is None else self._queue.run(self._call("id", self._stage))

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Note a number of the running stage; numbers are sent in batches."""
        self._metrics.append((name, float(value), _now(), step or 0))
        if len(self._metrics) >= _MOST_METRICS or time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self._flush()

    def end(self, context: StageContext, error: BaseException | None) -> None:
        """Close the run of a stage with what it recorded."""
        self._system.finish()
        recorded = {
            name: value
            for name, value in flatten(context.recorded).items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        for name, value in recorded.items():
            self.metric(name, value)
        self._flush()
        stage, self._stage = self._stage, None
        if stage is None:
            return
        if error is None:
            folder = context.output.relative_to(self._workspace)
            there = [name for name in _LOGGED_FILES if (context.output / name).exists()]
            if there:
                self._try(self._call("files", stage, files=[str(folder / name) for name in there]))
            if _REPORT[0] in there:
                self._try(self._call("files", self._pipeline_run, files=[str(folder / name) for name in _REPORT if name in there]))
            if recorded:  # what a search over pipelines asks for
                numbers = [(f"{context.stage}.{name}", float(value), _now(), 0) for name, value in recorded.items()]
                self._try(self._call("metrics", self._pipeline_run, metrics=numbers))
        self._try(self._call("end", stage, status=_status(error), time=_now()))

    def finish(self, error: BaseException | None = None) -> None:
        """Close the pipeline's run, or where this command had nothing to do the one that a kill left open; send what still waits."""
        left = self._left_open()
        if self._pipeline_run is not None:
            (self._workspace / OPEN_RUN).unlink(missing_ok=True)
            self._try(self._call("end", self._pipeline_run, status=_status(error), time=_now()))
            self._pipeline_run = None
        elif left and not left.get("closed"):
            write_json(self._workspace / OPEN_RUN, left | {"closed": True})  # said once; the pipeline may still go on under it
            self._try({"call": "end", "experiment": left["experiment"], "key": left["run"], "status": "KILLED", "time": _now()})
        self._queue.deliver(now=True)

    def _left_open(self) -> dict[str, Any] | None:
        try:
            known = read_json(self._workspace / OPEN_RUN)
        except ArtifactError:  # of no use, and no reason to fail
            return None
        if known and "road" in known:
            known["pipeline"] = known.pop("road")  # its name in release 0.1
        return known if known and {"pipeline", "run", "experiment"} <= known.keys() else None

    def _flush(self) -> None:
        metrics, self._metrics, self._flushed = self._metrics, [], time.monotonic()
        if metrics and self._stage is not None:
            self._try(self._call("metrics", self._stage, metrics=metrics))

    def _call(self, kind: str, key: str | None, **facts: Any) -> Call:
        return {"call": kind, "experiment": self._experiment, "key": key, **facts}

    def _try(self, call: Call) -> None:
        self._queue.send(call)

    def _open_pipeline_run(self, run: RunContext) -> None:
        """Open the run of this pipeline, or go on under the one that a killed run of the same pipeline left."""
        resolved = run.config.model_dump(mode="json", by_alias=True)
        pipeline = digest_of([resolved, run.as_of.isoformat() if run.as_of else None])
        self._experiment = run.config.tracking.experiment or run.config.name
        known = self._left_open()
        self._pipeline_run = known["run"] if known and known["pipeline"] == pipeline else uuid4().hex
        if known and known["run"] != self._pipeline_run and not known.get("closed"):
            self._try({"call": "end", "experiment": known["experiment"], "key": known["run"], "status": "KILLED", "time": _now()})
        write_json(self._workspace / OPEN_RUN, {"pipeline": pipeline, "run": self._pipeline_run, "experiment": self._experiment})
        self._try(
            self._call(
                "open",
                self._pipeline_run,
                location=experiment_location(run.config, run.workspace),
                name=f"{run.config.name} {run.started:%Y-%m-%d %H:%M:%S}",
                tags={"pipeline": pipeline, "seed": str(run.config.seed)},
                parameters=flatten(resolved),
                texts={"configuration.yaml": describe(run.config)},
                time=_now(),
            )
        )


def _datasets(run: RunContext, made_from: MadeFrom) -> list[dict[str, Any]]:
    """The events that a stage descends from, and where they have become rows those too: name, digest, source and sizes."""
    ingest = run.artifacts.get("ingest")
    manifest = ingest.manifest if ingest else None
    store = (manifest or made_from).inputs.get("store")
    if store is None or not store.digest:
        return []
    found = [{"name": f"{run.config.name} events", "digest": store.digest, "source": "store/events", "profile": {}}]
    if ingest is not None and manifest is not None:
        sizes = {key: value for key, value in manifest.facts.items() if isinstance(value, (int, float, dict))}
        source = ingest.path.relative_to(run.workspace).as_posix()
        found.append({"name": f"{run.config.name} rows", "digest": manifest.digest, "source": source, "profile": sizes})
    return found


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
