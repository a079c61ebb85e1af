"""What is told to MLflow, as plain data that can wait in a file: each call names its run by a key of our own.

Every call may be made twice without harm: a server that took one and died before it said so is told again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from feature_store.tables.files import UnsafeFile
from feature_store.tables.folders import regular_file
from pipelines.tracking.client import DATABASE, experiment_location, is_elsewhere, sqlite_uri

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

EXPERIMENT_KIND = "mlflow.experimentKind"
KEY = "ctr_kd.key"  # tag by which a run is known again
KEY_PATTERN = r"^[\w.-]{1,64}$"  # it stands in queries
CONFIGURATION = "configuration.yaml"  # the one text of a run
# The files of an artifact that are shown at a run. A call names them below the workspace, and nothing else there is ever sent.
LOGGED_FILES = (
    *("report.html", "metrics.json", "training.json", "summary.json", "registration.json", "next_item.json", "next_item_student.json"),
    *("prove.html", "prove.json", "sweep.html", "sweep.json", "monitor.html", "monitor.json", "tune.html", "tune.json"),
)
_LOGGED = re.compile(rf"artifacts/[\w-]+/[\w-]+/({'|'.join(map(re.escape, LOGGED_FILES))})")
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 500  # limits of one request
_DIGEST = 32  # characters of a dataset's digest that MLflow keeps


class RunKey(NamedTuple):
    """A run, before a server has given it an id.

    Attributes
    ----------
    experiment : str
        Name.
    key : str
        Our own.
    """

    experiment: str
    key: str


class _OfRun(BaseModel):
    """A call about a run."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    key: str = Field(pattern=KEY_PATTERN)

    @property
    def run(self) -> RunKey:
        return RunKey(self.experiment, self.key)


class OpenRun(_OfRun):
    """Create a run, or go on with it where it exists.

    Attributes
    ----------
    name : str
    time : int
        Milliseconds since 1970, as MLflow counts.
    parent : str or None
        Key of the run that it is part of.
    tags, parameters : dict
    texts : dict of str to str
        Files to be written, by name.
    """

    call: Literal["open"] = "open"
    name: str
    time: int
    parent: str | None = Field(None, pattern=KEY_PATTERN)
    tags: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)


class LogMetrics(_OfRun):
    """Numbers: name, value, time in milliseconds and step of each."""

    call: Literal["metrics"] = "metrics"
    metrics: list[tuple[str, float, int, int]]


class SetTags(_OfRun):
    call: Literal["tags"] = "tags"
    tags: dict[str, str]


class DatasetFacts(BaseModel):
    """What is said of rows that a run read: a name, a digest, where they lie, and their sizes."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    source: str
    profile: dict[str, Any] = Field(default_factory=dict)


class LogDatasets(_OfRun):
    call: Literal["datasets"] = "datasets"
    datasets: list[DatasetFacts]


class LogFiles(_OfRun):
    """Files of the workspace's artifacts, named relative to it, as it may be moved while they wait: ``artifacts/STAGE/FINGERPRINT/NAME``
    with one of :data:`LOGGED_FILES`."""

    call: Literal["files"] = "files"
    files: list[str]


class EndRun(_OfRun):
    """Close a run, with MLflow's word for how it ended."""

    call: Literal["end"] = "end"
    status: str
    time: int


Call = Annotated[OpenRun | LogMetrics | SetTags | LogDatasets | LogFiles | EndRun, Field(discriminator="call")]
_CALLS: TypeAdapter[Call] = TypeAdapter(Call)


def write_call(call: Call) -> str:
    """A call as one line of JSON."""
    return call.model_dump_json() + "\n"


def read_call(line: str) -> Call:
    """What :func:`write_call` wrote, or release 0.1 did; ValueError for anything else."""
    return _CALLS.validate_json(line)


class UnknownRun(Exception):
    """The server knows no run of this key: its database is another one, or the run was deleted."""


class NotSent(Exception):
    """What a call asks for is never done: it would send other files than a run's own, or to another place than is configured."""


class Caller:
    """Makes calls.

    Parameters
    ----------
    uri : str
        Tracking server. Where a call goes is decided here, and never by the call.
    workspace : Path
        Files are named relative to it.
    """

    def __init__(self, uri: str, workspace: Path) -> None:
        self._uri, self._workspace = uri, workspace
        self._ids: dict[RunKey, str] = {}

    def make(self, client: MlflowClient, call: Call) -> None:
        """Make a call.

        Raises
        ------
        UnknownRun
            When its run was never opened on this server.
        NotSent
            When it names what is no file of an artifact, or the workspace's own database says that files go to another machine.
        """
        match call:
            case OpenRun():
                self._open(client, call)
            case LogMetrics():
                self._log_metrics(client, call)
            case SetTags():
                self._set_tags(client, call)
            case LogDatasets():
                self._log_datasets(client, call)
            case LogFiles():
                self._log_files(client, call)
            case EndRun():
                self._end(client, call)

    def id_of(self, client: MlflowClient, run: RunKey) -> str:
        """Id of a run on the server.

        Raises
        ------
        UnknownRun
            When it was never opened there.
        """
        if run not in self._ids:
            found = _find(client, run)
            if found is None:
                raise UnknownRun(f"no run {run.key} in experiment {run.experiment}")
            self._ids[run] = found.info.run_id
        return self._ids[run]

    def _open(self, client: MlflowClient, call: OpenRun) -> None:
        if call.texts.keys() - {CONFIGURATION}:
            raise NotSent(f"a run has no text {min(call.texts.keys() - {CONFIGURATION})!r}")
        found = _find(client, call.run)
        if found is not None:
            self._ids[call.run] = found.info.run_id
            _kill_orphans(client, found)
            client.update_run(found.info.run_id, status="RUNNING")
        else:
            known = client.get_experiment_by_name(call.experiment)
            experiment = (
                known.experiment_id
                if known
                else client.create_experiment(call.experiment, artifact_location=experiment_location(self._uri, self._workspace))
            )
            parent = {"mlflow.parentRunId": self.id_of(client, RunKey(call.experiment, call.parent))} if call.parent else {}
            tags = {KEY: call.key, **call.tags, **parent}
            _open_on_runs(client, experiment, known)
            created = client.create_run(experiment, start_time=call.time, run_name=call.name, tags=tags)
            self._ids[call.run] = created.info.run_id
        run = self._ids[call.run]
        self._require_own_place(client, run)
        for some in _pieces(list(call.parameters.items()), _MOST_PARAMETERS):
            client.log_batch(run, params=list(_parameters(some)))
        for name, text in call.texts.items():
            client.log_text(run, text, name)

    def _log_metrics(self, client: MlflowClient, call: LogMetrics) -> None:
        from mlflow.entities import Metric

        run = self.id_of(client, call.run)
        for some in _pieces(call.metrics, _MOST_METRICS):
            client.log_batch(run, metrics=[Metric(*metric) for metric in some])

    def _set_tags(self, client: MlflowClient, call: SetTags) -> None:
        from mlflow.entities import RunTag

        client.log_batch(self.id_of(client, call.run), tags=[RunTag(name, value) for name, value in call.tags.items()])

    def _log_datasets(self, client: MlflowClient, call: LogDatasets) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one.name, one.digest[:_DIGEST], "local", json.dumps({"uri": one.source}), profile=json.dumps(one.profile)),
                [InputTag("mlflow.data.context", "training")],
            )
            for one in call.datasets
        ]
        client.log_inputs(self.id_of(client, call.run), inputs)

    def _log_files(self, client: MlflowClient, call: LogFiles) -> None:
        run = self.id_of(client, call.run)
        self._require_own_place(client, run)
        for name in call.files:
            if _LOGGED.fullmatch(name) is None:
                raise NotSent(f"{name!r} is no file of an artifact that a run shows")
            try:
                file = regular_file(self._workspace, name)
            except FileNotFoundError:
                continue  # it was made again since, and is told again
            except UnsafeFile as error:
                raise NotSent(str(error)) from None
            client.log_artifact(run, str(file))

    def _require_own_place(self, client: MlflowClient, run: str) -> None:
        """A database in the workspace may come from elsewhere with it: it must not say that files go to another machine."""
        if self._uri == sqlite_uri(self._workspace / DATABASE):
            place = client.get_run(run).info.artifact_uri
            if is_elsewhere(place):
                del self._ids[next(key for key, known in self._ids.items() if known == run)]
                raise NotSent(f"{self._workspace / DATABASE} keeps the files of experiment and run at {place}, on another machine")

    def _end(self, client: MlflowClient, call: EndRun) -> None:
        found = client.get_run(self.id_of(client, call.run))
        _kill_orphans(client, found)
        client.set_terminated(found.info.run_id, call.status, end_time=call.time)


def _open_on_runs(client: MlflowClient, experiment: str, known: Experiment | None) -> None:
    """Let MLflow's page show the runs of an experiment: without a kind it shows the traces, of which there are none."""
    if known is None or EXPERIMENT_KIND not in known.tags:
        client.set_experiment_tag(experiment, EXPERIMENT_KIND, "custom_model_development")


def _find(client: MlflowClient, run: RunKey) -> Run | None:
    known = client.get_experiment_by_name(run.experiment)
    found = client.search_runs([known.experiment_id], f"tags.`{KEY}` = '{run.key}'", max_results=1) if known else []
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
