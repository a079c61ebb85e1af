"""What is told to MLflow, as plain data that can wait in a file: each call names its run by a key of our own.

Every call may be made twice without harm: a server that took one and died before it said so is told again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Call = dict[str, Any]
KEY = "ctr_kd.key"  # tag by which a run is known again
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 500  # limits of one request
_DIGEST = 32  # characters of a dataset's digest that MLflow keeps


class UnknownRun(Exception):
    """The server knows no run of this key: its database is another one, or the run was deleted."""


class Caller:
    """Makes calls.

    Parameters
    ----------
    workspace : Path
        Files are named relative to it, as it may be moved while they wait.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._runs: dict[str, str] = {}

    def make(self, client: MlflowClient, call: Call) -> None:
        """Make a call.

        Raises
        ------
        UnknownRun
            When its run was never opened on this server.
        """
        kinds = {"open": self._open, "metrics": self._metrics, "tags": self._tags, "datasets": self._datasets}
        (kinds | {"files": self._files, "end": self._end})[call["call"]](client, call)

    def run(self, client: MlflowClient, call: Call) -> str:
        """Id of a call's run on the server."""
        return self._id(client, call["experiment"], call["key"])

    def _id(self, client: MlflowClient, experiment: str, key: str) -> str:
        if key not in self._runs:
            found = _find(client, experiment, key)
            if found is None:
                raise UnknownRun(f"no run {key} in experiment {experiment}")
            self._runs[key] = found.info.run_id
        return self._runs[key]

    def _open(self, client: MlflowClient, call: Call) -> None:
        """Create a run, or go on with it where it exists."""
        found = _find(client, call["experiment"], call["key"])
        if found is not None:
            self._runs[call["key"]] = found.info.run_id
            _kill_orphans(client, found)
            client.update_run(found.info.run_id, status="RUNNING")
        else:
            known = client.get_experiment_by_name(call["experiment"])
            experiment = known.experiment_id if known else client.create_experiment(call["experiment"], artifact_location=call["location"])
            parent = {"mlflow.parentRunId": self._id(client, call["experiment"], call["parent"])} if call.get("parent") else {}
            tags = {KEY: call["key"], **call["tags"], **parent}
            created = client.create_run(experiment, start_time=call["time"], run_name=call["name"], tags=tags)
            self._runs[call["key"]] = created.info.run_id
        run = self._runs[call["key"]]
        for some in _pieces(list(call["parameters"].items()), _MOST_PARAMETERS):
            client.log_batch(run, params=list(_parameters(some)))
        for name, text in call.get("texts", {}).items():
            client.log_text(run, text, name)

    def _metrics(self, client: MlflowClient, call: Call) -> None:
        from mlflow.entities import Metric

        run = self.run(client, call)
        for some in _pieces(call["metrics"], _MOST_METRICS):
            client.log_batch(run, metrics=[Metric(*metric) for metric in some])

    def _tags(self, client: MlflowClient, call: Call) -> None:
        from mlflow.entities import RunTag

        client.log_batch(self.run(client, call), tags=[RunTag(name, value) for name, value in call["tags"].items()])

    def _datasets(self, client: MlflowClient, call: Call) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    one["name"], one["digest"][:_DIGEST], "local", json.dumps({"uri": one["source"]}), profile=json.dumps(one["profile"])
                ),
                [InputTag("mlflow.data.context", "training")],
            )
            for one in call["datasets"]
        ]
        client.log_inputs(self.run(client, call), inputs)

    def _files(self, client: MlflowClient, call: Call) -> None:
        run = self.run(client, call)
        for name in call["files"]:
            if (self._workspace / name).is_file():  # else it was made again since, and is told again
                client.log_artifact(run, str(self._workspace / name))

    def _end(self, client: MlflowClient, call: Call) -> None:
        found = client.get_run(self.run(client, call))
        _kill_orphans(client, found)
        client.set_terminated(found.info.run_id, call["status"], end_time=call["time"])


def _find(client: MlflowClient, experiment: str, key: str) -> Run | None:
    known = client.get_experiment_by_name(experiment)
    found = client.search_runs([known.experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1) if known else []
    return found[0] if found else None


def _kill_orphans(client: MlflowClient, run: Run) -> None:
    """Close the nested runs of stages that were killed: nobody else will."""
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and attributes.status = 'RUNNING'"
    for orphan in client.search_runs([run.info.experiment_id], query):
        client.set_terminated(orphan.info.run_id, "KILLED")


def _pieces(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def _parameters(values: Sequence[tuple[str, Any]]) -> Iterator[Any]:
    from mlflow.entities import Param

    for name, value in values:
        yield Param(name, (value if isinstance(value, str) else json.dumps(value))[:_LONGEST])


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
