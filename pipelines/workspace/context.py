"""What a stage is, and what it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ctr_kd.training.distributed import ALONE, Processes
from feature_store.store.store import Store
from pipelines.config.run import RunConfig
from pipelines.workspace.artifacts import CHECKPOINT, Artifact, DigestMemo
from pipelines.workspace.console import Console
from pipelines.workspace.manifest import MadeFrom
from pipelines.workspace.parent import Parent
from pipelines.workspace.source_digest import source_of
from pipelines.workspace.stopwatch import Stopwatch

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.config import AssemblyConfig


FindParent = Callable[["RunContext"], Parent | None]
Watch = Callable[[str, float, Mapping[str, float]], None]


@dataclass(frozen=True)
class TrialFacts:
    """What experiment tracking is told of a trial.

    Attributes
    ----------
    name : str
    parameters : mapping
        Values by dotted key.
    metrics : mapping of str to float
    points : mapping of int to float
        What validation measured, by step.
    tags : mapping of str to str
    began, ended : datetime
    worked : bool
        Whether it gave a student.
    """

    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    points: Mapping[int, float]
    tags: Mapping[str, str]
    began: datetime
    ended: datetime
    worked: bool


class StageTracker(Protocol):
    """What a run asks of experiment tracking; :class:`pipelines.tracking.tracker.Tracker` is it."""

    @property
    def stage(self) -> str | None:
        """The tracking server's id of the running stage; None where the server does not answer."""

    def begin(self, run: RunContext, stage: str, made_from: MadeFrom, fingerprint: str) -> None:
        """Open the run of a stage."""

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Note a number of the running stage."""

    def end(self, context: StageContext, error: BaseException | None) -> None:
        """Close the run of a stage."""

    def trial(self, run: RunContext, trial: TrialFacts) -> None:
        """Note a trial of a search, which has ended."""


class FeatureSource(Protocol):
    """Historical features of any rows; :class:`pipelines.scoring.feature_join.StoreFeatures` is it."""

    broken: bool

    def columns(self, config: AssemblyConfig) -> list[str]:
        """Columns of a row that its features are made of."""

    def compared(self, config: AssemblyConfig) -> list[str]:
        """Columns of those features that compare the candidates of a request."""

    def of(self, table: pa.Table, config: AssemblyConfig) -> pa.Table:
        """Histories and statistics, made as the settings say, beside rows with some of these columns."""

    def user_attributes(self, user_id: pa.ChunkedArray, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Attribute columns of a user id per row."""


@dataclass
class RunContext:
    """What all stages of one run share.

    Attributes
    ----------
    config : RunConfig
    workspace : Path
    data : Path or None
        Folder of the raw log; None where the command line names none. Stage ``ingest`` sets it to what an earlier command named, or to the
        copy of the files behind ``url``.
    as_of : datetime or None
        Logical time: what happened or became known then or later exists for no stage. None: everything is visible.
    force : bool
        Whether the stage that the runner looks at now is to be made again, whatever its state.
    options : dict
        What the command line says to single stages: ``date`` and ``model`` of ``score``.
    read_only : bool
        True while ``status`` looks at the workspace: no hook may change it.
    artifacts : dict of str to Artifact
        Earlier stages of this run, by name; all of them up to date.
    processes : Processes
        Those that share the training.
    given : RunConfig or None
        The configuration as it was before the log decided what is ``auto``; None where nothing was decided. A copy of the context has none.
    copies : dict of str to str
        Patterns of the copies of items and users whose files are behind a URL of their own, by ``items`` and ``users``.
    watch : callable
        Takes a stage that trains, the share of its steps that are done, and what validation measured then; what it raises ends the run.
    making : Path or None
        Folder of locks by artifact, where several processes of one command make artifacts at once; None: this one makes them alone.
    find_parent : callable
        Finds the run that this one continues, once the store is up to date; None where it begins anew.
    parent : Parent or None
        What it found.
    features : FeatureSource or None
        Held open by a command that scores many dates, so that each need not read the log anew.
    url : str or None
        Where the raw log lies, if not in a folder of this machine.
    stopwatch : Stopwatch
        Of what the parts of a scoring cost; started where the command line wants it.
    """

    config: RunConfig
    workspace: Path
    data: Path | None = None
    as_of: datetime | None = None
    force: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    read_only: bool = False
    console: Console = field(default_factory=Console)
    tracker: StageTracker | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    processes: Processes = ALONE
    watch: Watch = lambda stage, share, figures: None
    making: Path | None = None
    find_parent: FindParent = lambda run: None
    parent: Parent | None = None
    features: FeatureSource | None = None
    url: str | None = None
    copies: dict[str, str] = field(default_factory=dict)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    given: RunConfig | None = field(default=None, init=False)
    _store: Store | None = None

    @property
    def as_given(self) -> RunConfig:
        """The configuration for other rows: what is ``auto`` in it those decide."""
        return self.given or self.config

    @property
    def store(self) -> Store:
        """The events of this workspace."""
        if self._store is None:
            self._store = Store(self.workspace / "store")
        return self._store

    @property
    def memo(self) -> DigestMemo:
        """Digests of input files, remembered between runs."""
        return DigestMemo(self.workspace / "artifacts" / ".input_digests.json", keep=not self.read_only)

    def report(self, text: str, stage: str | None = None, **fields: Any) -> None:
        """Write one log line; see :meth:`pipelines.workspace.console.Console.report`."""
        self.console.report(text, stage, **fields)


@dataclass
class StageContext:
    """What one stage is given; see :class:`Stage`.

    Attributes
    ----------
    run : RunContext
    stage : str
        The stage's own name.
    keys : tuple of str
        The configuration keys that it declared to read.
    inputs : dict of str to Path
        Artifact directory of every stage named as ``upstream``; their digests have been checked.
    output : Path
        The stage's own directory. Whatever lies there when the stage returns is the artifact.
    outside : dict of str to str
        What the stage's inputs from outside were when its fingerprint was made; see :class:`Stage`.
    checkpoint : Path
        Directory whose files survive a kill, and are removed when the stage is done. The stage creates it.
    began : float
        ``time.monotonic()`` when this run turned to the stage.
    """

    run: RunContext
    stage: str
    keys: tuple[str, ...]
    inputs: dict[str, Path]
    output: Path
    outside: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def config(self) -> RunConfig:
        return self.run.config

    @property
    def workspace(self) -> Path:
        return self.run.workspace

    @property
    def data(self) -> Path | None:
        return self.run.data

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def as_of(self) -> datetime | None:
        return self.run.as_of

    @property
    def processes(self) -> Processes:
        return self.run.processes

    @property
    def fingerprint(self) -> str:
        return self.output.name

    @property
    def seconds(self) -> float:
        """What the stage has taken so far."""
        return time.monotonic() - self.began

    @property
    def checkpoint(self) -> Path:
        return self.output / CHECKPOINT

    def report(self, text: str, **fields: Any) -> None:
        """Write one log line, under the stage's name."""
        self.run.report(text, self.stage, **fields)

    def progress(self, description: str, total: float | None) -> Any:
        """``with context.progress("training", total=steps) as progress: progress.advance(1, loss=loss)``"""
        return self.run.console.progress(description, total, self.stage)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Send a number to MLflow, per step for a curve."""
        if self.run.tracker:
            self.run.tracker.metric(name, value, step)

    def announce(self) -> None:
        """Have the other processes run this stage as well, with the same inputs and the same configuration."""
        inputs = {name: str(path) for name, path in self.inputs.items()}
        config = self.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self.processes.tell({"stage": self.stage, "config": config, "inputs": inputs, "output": str(self.output)})

    def record(self, facts: Mapping[str, Any]) -> None:
        """Add facts (rows, metrics) to the artifact's manifest; numbers go to MLflow as well."""
        self.recorded.update(facts)


@dataclass(frozen=True)
class Stage:
    """A function of (configuration, inputs by digest) to one immutable artifact directory.

    Attributes
    ----------
    name : str
    run : callable
        Does the work: reads ``context.inputs``, writes ``context.output``.
    upstream : tuple of str
        Stages whose artifacts it reads.
    keys : tuple of str
        Dotted configuration keys that it reads. A change of any other key keeps the artifact.
    source : str, optional
        Module whose source, with all that it imports, is part of the fingerprint; by default the one that defines ``run``.
    outside : callable, optional
        Digests of what the stage reads besides artifacts and configuration (the raw log, the champion's version).
    up_to_date : callable, optional
        Whether what the stage did outside its directory (a registry entry, a partition) is still there.
    conclude : callable, optional
        Called after the stage, also when it was skipped: publishes a report, or raises what a refused gate raises.
    shared : bool
        Whether all processes run it, because it trains with them. Only the one that leads may write.
    settle : callable, optional
        The configuration as it is once the artifact is there: what the log decides (``auto``) are numbers for the stages behind it.
    after : tuple of str
        Stages that must have run before it in the same command, though nothing of theirs is part of its fingerprint.
    """

    name: str
    run: Callable[[StageContext], None]
    upstream: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    source: str | None = None
    outside: Callable[[RunContext], dict[str, str]] | None = None
    up_to_date: Callable[[StageContext], bool] | None = None
    conclude: Callable[[StageContext], None] | None = None
    shared: bool = False
    settle: Callable[[RunConfig, Path], RunConfig] | None = None
    after: tuple[str, ...] = ()

    @property
    def source_digests(self) -> dict[str, str]:
        """Digests of the source that the stage runs, by module."""
        return source_of(self.source or self.run.__module__)
