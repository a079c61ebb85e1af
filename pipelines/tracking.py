"""MLflow tracking: one parent run per road, a nested run per stage that did work.

Importing MLflow takes seconds and its first connection migrates a database, so both wait until a stage has work to do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts import ArtifactError, digest_of, read_json, write_json
from pipelines.config import describe
from pipelines.mlflow_server import TrackingError, artifact_location, connect, unreachable

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from pipelines.runner import RunContext, StageContext

_LOGGED_FILES = (
    *("report.html", "metrics.json", "training.json", "summary.json", "registration.json", "next_item.json"),
    *("prove.html", "prove.json", "sweep.html", "sweep.json", "monitor.html", "monitor.json"),
)
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 500  # limits of one request
_SECONDS_BETWEEN_FLUSHES = 10.0
OPEN_RUN = ".open_run.json"


class Tracker:
    """Logs a road to MLflow.

    A server that does not answer costs the log, not the night's training: it is said once, and the stages go on. (The stage
    ``register`` needs the registry and fails without it.)

    Parameters
    ----------
    uri : str
        Tracking server.
    workspace : Path
        Keeps the id of the open parent run, which a killed run is continued under.
    report : callable
        Prints a line.
    """

    def __init__(self, uri: str, workspace: Path, report: Callable[[str], None]) -> None:
        self._uri, self._workspace, self._report = uri, workspace, report
        self._client: MlflowClient | None = None
        self._failed = False
        self._experiment = ""
        self.parent: str | None = None
        self.stage: str | None = None
        self._metrics: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()

    def begin(self, run: RunContext, stage: str, made_from: Mapping[str, Any], fingerprint: str) -> None:
        """Open the run of a stage, and the road's before the first of them."""

        def work(client: MlflowClient) -> None:
            if self.parent is None:
                self.parent = self._open_road(client, run)
            tags = {"mlflow.parentRunId": self.parent, "stage": stage, "fingerprint": fingerprint}
            tags |= {f"input.{name}": str(entry.get("fingerprint") or entry.get("digest")) for name, entry in made_from["inputs"].items()}
            data = _data_digest(run, made_from)
            if data:
                tags["data.digest"] = data
                client.set_tag(self.parent, "data.digest", data)
            self.stage = client.create_run(self._experiment, run_name=stage, tags=tags).info.run_id
            parameters = list(flatten(made_from["config"]).items())
            for first in range(0, len(parameters), _MOST_PARAMETERS):
                _log_parameters(client, self.stage, parameters[first : first + _MOST_PARAMETERS])

        self._try(work)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Note a number of the running stage; numbers are sent in batches."""
        self._metrics.append((name, float(value), int(time.time() * 1000), step or 0))
        if len(self._metrics) >= _MOST_METRICS or time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self._flush()

    def end(self, context: StageContext, error: BaseException | None) -> None:
        """Close the run of a stage with what it recorded."""
        for name, value in flatten(context.recorded).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.metric(name, value)
        self._flush()
        stage, self.stage = self.stage, None

        def work(client: MlflowClient) -> None:
            if stage is None:
                return
            if error is None:
                for name in _LOGGED_FILES:
                    if (context.output / name).exists():
                        client.log_artifact(stage, str(context.output / name))
            client.set_terminated(stage, _status(error))

        self._try(work)

    def finish(self, error: BaseException | None = None) -> None:
        """Close the road's run, or where this command had nothing to do the one that a kill left open."""
        left = self._left_open()

        def work(client: MlflowClient) -> None:
            if self.parent is not None:
                client.set_terminated(self.parent, _status(error))
                (self._workspace / OPEN_RUN).unlink(missing_ok=True)
                self.parent = None
            elif left and _exists(client, left["run"]):
                _kill_orphans(client, left["run"])
                client.set_terminated(left["run"], "KILLED")
                write_json(self._workspace / OPEN_RUN, left | {"closed": True})  # said once; the road may still go on under it

        if self.parent is not None or (left and not left.get("closed")):
            self._try(work)

    def _left_open(self) -> dict[str, Any] | None:
        try:
            return read_json(self._workspace / OPEN_RUN)
        except ArtifactError:  # of no use, and no reason to fail
            return None

    def _flush(self) -> None:
        metrics, self._metrics, self._flushed = self._metrics, [], time.monotonic()
        stage = self.stage
        if not metrics or stage is None:
            return

        def work(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            for first in range(0, len(metrics), _MOST_METRICS):
                client.log_batch(stage, [Metric(*metric) for metric in metrics[first : first + _MOST_METRICS]])

        self._try(work)

    def _try(self, work: Callable[[MlflowClient], None]) -> None:
        if self._failed:
            return
        try:
            if self._client is None:
                self._client = connect(self._uri)
            work(self._client)
        except TrackingError as error:
            self._give_up(error)
        except Exception as error:  # whatever a tracking server does wrong must not end the training
            self._give_up(unreachable(self._uri, error))

    def _give_up(self, error: TrackingError) -> None:
        self._failed = True
        self._report(f"warning: {error}; this run goes on without a log there")

    def _open_road(self, client: MlflowClient, run: RunContext) -> str:
        self._experiment = _experiment(client, run)
        resolved = run.config.model_dump(mode="json", by_alias=True)
        road = digest_of([resolved, run.as_of.isoformat() if run.as_of else None])
        known = self._left_open()
        if known and _exists(client, known["run"]):  # on this server, that is: run ids are unique everywhere
            _kill_orphans(client, known["run"])
            if known.get("road") == road:
                client.update_run(known["run"], status="RUNNING")
                return str(known["run"])
            client.set_terminated(known["run"], "KILLED")
        tags = {"road": road, "seed": str(run.config.seed)}
        parent = client.create_run(self._experiment, run_name=f"{run.config.name} {run.started:%Y-%m-%d %H:%M:%S}", tags=tags).info.run_id
        write_json(self._workspace / OPEN_RUN, {"road": road, "run": parent})
        parameters = list(flatten(resolved).items())
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            _log_parameters(client, parent, parameters[first : first + _MOST_PARAMETERS])
        client.log_text(parent, describe(run.config), "configuration.yaml")
        return str(parent)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names, as MLflow searches them.

    Examples
    --------
    >>> flatten({"student": {"kind": "pooled", "width": 32}, "seed": 0})
    {'student.kind': 'pooled', 'student.width': 32, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _log_parameters(client: MlflowClient, run: str, parameters: list[tuple[str, Any]]) -> None:
    from mlflow.entities import Param

    shown = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in parameters]
    client.log_batch(run, params=[Param(name, text[:_LONGEST]) for name, text in shown])


def _experiment(client: MlflowClient, run: RunContext) -> str:
    name = run.config.tracking.experiment or run.config.name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server has a place of its own for artifacts; the default store keeps them beside its database.
    location = None if run.config.tracking.uri else artifact_location(run.workspace)
    return str(client.create_experiment(name, artifact_location=location))


def _exists(client: MlflowClient, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.run_id)
    except MlflowException:  # the database was removed since
        return False


def _kill_orphans(client: MlflowClient, parent: str) -> None:
    """Close the runs of stages that were killed: nobody else will."""
    experiment = client.get_run(parent).info.experiment_id
    for orphan in client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"):
        client.set_terminated(orphan.info.run_id, "KILLED")


def _data_digest(run: RunContext, made_from: Mapping[str, Any]) -> str | None:
    """Digest of the events that this stage descends from."""
    inputs = made_from["inputs"]
    if "ingest" in run.artifacts:
        inputs = (run.artifacts["ingest"].manifest or {}).get("inputs", {})
    store = inputs.get("store", {}).get("digest")
    return str(store) if store else None


def _status(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
