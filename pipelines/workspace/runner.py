"""Runs stages in order: skips what stands, continues what was killed, and names every artifact by what went into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ctr_kd.training.distributed import ALONE, Processes
from pipelines.workspace.artifacts import CHECKPOINT, Artifact, DigestMemo, Verifier, fingerprint
from pipelines.config.run import ConfigError, RunConfig
from pipelines.workspace.console import Console
from pipelines.workspace.resources import peak_memory_bytes, reset_peak_memory, versions

if TYPE_CHECKING:
    from feature_store.store.store import Store
    from pipelines.scoring.feature_join import StoreFeatures
    from pipelines.tracking.tracker import Tracker


@dataclass
class RunContext:
    """What all stages of one run share.

    Attributes
    ----------
    config : RunConfig
    workspace : Path
    data : Path or None
        Folder of the raw log; None where the command line names none.
    as_of : datetime or None
        Logical time: what happened or became known then or later exists for no stage. None: everything is visible.
    options : dict
        What the command line says to single stages: ``date`` and ``model`` of ``score``.
    read_only : bool
        True while ``status`` looks at the workspace: no hook may change it.
    artifacts : dict of str to Artifact
        Earlier stages of this run, by name; all of them stand.
    processes : Processes
        Those that share the training.
    features : StoreFeatures or None
        Held open by a command that scores many dates, so that each need not read the log anew.
    """

    config: RunConfig
    workspace: Path
    data: Path | None = None
    as_of: datetime | None = None
    options: dict[str, Any] = field(default_factory=dict)
    read_only: bool = False
    console: Console = field(default_factory=Console)
    tracker: Tracker | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    processes: Processes = ALONE
    features: StoreFeatures | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The events of this workspace."""
        if self._store is None:
            from feature_store.store.store import Store

            self._store = Store(self.workspace / "store")
        return self._store

    @property
    def memo(self) -> DigestMemo:
        """Digests of input files, remembered between runs."""
        return DigestMemo(self.workspace / "artifacts" / ".input_digests.json", keep=not self.read_only)

    def report(self, text: str) -> None:
        """Print one log line."""
        self.console.report(text)


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

    def report(self, text: str) -> None:
        """Print one log line, under the stage's name."""
        self.run.report(f"{self.stage}: {text}")

    def progress(self, description: str, total: float | None) -> Any:
        """``with context.progress("training", total=steps) as progress: progress.advance(1, loss=loss)``"""
        return self.run.console.progress(f"{self.stage}: {description}", total)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Send a number to MLflow, per step for a curve."""
        if self.run.tracker:
            self.run.tracker.metric(name, value, step)

    def announce(self) -> None:
        """Have the other processes run this stage as well, with the same inputs; see :func:`help_out`."""
        inputs = {name: str(path) for name, path in self.inputs.items()}
        self.processes.tell({"stage": self.stage, "inputs": inputs, "output": str(self.output)})

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
    code_version : int
        Raise it when the code begins to give other results from the same inputs.
    outside : callable, optional
        Digests of what the stage reads besides artifacts and configuration (the raw log, the champion's version).
    stands : callable, optional
        Whether what the stage did outside its directory (a registry entry, a partition) is still there.
    conclude : callable, optional
        Called after the stage, also when it was skipped: publishes a report, or raises what a refused gate raises.
    shared : bool
        Whether all processes run it, because it trains with them. Only the one that leads may write.
    after : tuple of str
        Stages that must have run before it in the same command, though nothing of theirs is part of its fingerprint.
    """

    name: str
    run: Callable[[StageContext], None]
    upstream: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    code_version: int = 1
    outside: Callable[[RunContext], dict[str, str]] | None = None
    stands: Callable[[StageContext], bool] | None = None
    conclude: Callable[[StageContext], None] | None = None
    shared: bool = False
    after: tuple[str, ...] = ()


class RunSummary(NamedTuple):
    """What a run did: names of the stages that it made and of those that stood already."""

    made: tuple[str, ...]
    stood: tuple[str, ...]
    seconds: float


class StageState(NamedTuple):
    """What stands of one stage; ``fingerprint`` is None where it depends on an earlier stage that is missing."""

    name: str
    fingerprint: str | None
    state: str
    manifest: dict[str, Any] | None = None


class Runner:
    """Brings a road of stages up to date.

    Parameters
    ----------
    context : RunContext
    road : sequence of Stage
        In the order in which they run; a stage names only earlier ones as upstream.
    """

    def __init__(self, context: RunContext, road: Sequence[Stage]) -> None:
        self.context = context
        self.road = {stage.name: stage for stage in road}
        self._verifier = Verifier()

    def run(self, first: str | None = None, last: str | None = None, force: bool = False) -> RunSummary:
        """Run the stages from ``first`` to ``last``, and before them whatever they need that is missing.

        Parameters
        ----------
        first, last : str, optional
            Both inclusive; by default the whole road.
        force : bool
            Make the stages from ``first`` to ``last`` again even where they stand.

        Raises
        ------
        ConfigError
            When a stage does not exist or ``first`` comes after ``last``.
        """
        began, made, stood = time.monotonic(), [], []
        wanted = self._between(first, last)
        for stage in self._needed(wanted):
            if self._bring_up_to_date(stage, force and stage.name in wanted):
                made.append(stage.name)
            else:
                stood.append(stage.name)
        return RunSummary(tuple(made), tuple(stood), time.monotonic() - began)

    def states(self) -> list[StageState]:
        """What stands and what is missing, without changing anything."""
        states: list[StageState] = []
        for stage in self.road.values():
            missing = [name for name in (*stage.upstream, *stage.after) if name not in self.context.artifacts]
            if missing:
                states.append(StageState(stage.name, None, f"missing (needs {', '.join(missing)})"))
                continue
            try:
                states.append(self._state(stage))
            except Exception as error:  # what keeps a stage from being looked at (a log that changed, no champion) is its state
                states.append(StageState(stage.name, None, f"cannot be told: {error}"))
        return states

    def _state(self, stage: Stage) -> StageState:
        artifact, _ = self._locate(stage)
        manifest = artifact.manifest
        if self._stands(stage, artifact):
            self.context.artifacts[stage.name] = artifact
            return StageState(stage.name, artifact.path.name, "stands", manifest)
        return StageState(
            stage.name, artifact.path.name, "out of date" if manifest else "unfinished" if artifact.path.exists() else "missing", manifest
        )

    def _between(self, first: str | None, last: str | None) -> list[str]:
        names = list(self.road)
        for name in (first, last):
            if name is not None and name not in self.road:
                raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(names)}")
        begin = names.index(first) if first else 0
        end = names.index(last) + 1 if last else len(names)
        if begin >= end:
            raise ConfigError(f"--from {first} comes after --until {last}; the order is {', '.join(names)}")
        return names[begin:end]

    def _needed(self, wanted: Sequence[str]) -> list[Stage]:
        needed = set(wanted)
        for stage in reversed(self.road.values()):
            if stage.name in needed:
                needed.update(stage.upstream)
                needed.update(name for name in stage.after if name not in self.context.artifacts)
        return [stage for stage in self.road.values() if stage.name in needed]

    def _locate(self, stage: Stage) -> tuple[Artifact, dict[str, Any]]:
        """The stage's artifact, whether it stands or not, and what it is made from."""
        outside = stage.outside(self.context) if stage.outside else {}
        upstream = {name: self.context.artifacts[name] for name in stage.upstream}
        config = self.context.config.section(stage.keys)
        name = fingerprint(stage.name, stage.code_version, config, {**{name: one.path.name for name, one in upstream.items()}, **outside})
        # The name needs only fingerprints, so equal runs have equal names everywhere; whether the artifact is up to date
        # is a question of the bytes: an earlier stage may have been made again with --force by changed code.
        inputs = {name: {"fingerprint": one.path.name, "digest": (one.manifest or {}).get("digest")} for name, one in upstream.items()}
        made_from = {"inputs": {**inputs, **{name: {"digest": digest} for name, digest in outside.items()}}, "config": config}
        return Artifact(self.context.workspace / "artifacts" / stage.name / name), made_from

    def _stage_context(self, stage: Stage, artifact: Artifact, began: float | None = None) -> StageContext:
        inputs = {name: self.context.artifacts[name].path for name in stage.upstream}
        context = StageContext(self.context, stage.name, stage.keys, inputs, artifact.path)
        return context if began is None else replace(context, began=began)

    def _stands(self, stage: Stage, artifact: Artifact) -> bool:
        manifest = artifact.manifest
        if manifest is None:
            return False
        for name in stage.upstream:
            upstream = self.context.artifacts[name].manifest or {}
            if manifest["inputs"][name]["digest"] != upstream.get("digest"):
                return False
        return stage.stands is None or stage.stands(self._stage_context(stage, artifact))

    def _bring_up_to_date(self, stage: Stage, force: bool) -> bool:
        reset_peak_memory()
        began = time.monotonic()  # looking at the world outside may be work: `ingest` reads new input there
        artifact, made_from = self._locate(stage)
        context = self._stage_context(stage, artifact, began)
        work = force or not self._stands(stage, artifact)
        if work:
            self._make(stage, context, artifact, made_from, force)
        else:
            artifact.tidy()
            context.report(f"stands ({artifact.path.name})")
        self.context.artifacts[stage.name] = artifact
        if stage.conclude:
            self._verifier.verify(artifact)
            stage.conclude(context)
        return work

    def _make(self, stage: Stage, context: StageContext, artifact: Artifact, made_from: dict[str, Any], force: bool) -> None:
        for name in stage.upstream:
            self._verifier.verify(self.context.artifacts[name])
        if force:
            artifact.forget()
        resumed = artifact.begin(made_from)
        context.report(f"{'continues from its checkpoint' if resumed else 'begins'} ({artifact.path.name})")
        tracker = self.context.tracker
        if tracker:
            tracker.begin(self.context, stage.name, made_from, artifact.path.name)
        started = datetime.now(UTC) - timedelta(seconds=context.seconds)
        try:
            if stage.shared:
                context.announce()
            stage.run(context)
        except BaseException as error:
            if tracker:
                tracker.end(context, error)
            raise
        facts = {
            "stage": stage.name,
            "fingerprint": artifact.path.name,
            "code_version": stage.code_version,
            **made_from,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(context.seconds, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "versions": versions(),
            "facts": context.recorded,
        }
        artifact.publish(facts)
        if tracker:
            tracker.end(context, None)
        context.report(f"done in {facts['seconds']:.1f} s")
