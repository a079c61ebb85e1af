"""Runs stages in order: skips what is up to date, continues what was killed, and names every artifact by what went into it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from feature_store.tables.json_files import digest_of
from pipelines.errors import ConfigError
from pipelines.workspace.artifacts import Artifact, ArtifactError, Verifier, fingerprint
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.lock import held_file
from pipelines.workspace.manifest import MadeFrom, Manifest, StageInput
from pipelines.workspace.resources import peak_memory_bytes, reset_peak_memory, versions
from pipelines.workspace.source_digest import changed_modules

_SHOWN = 3  # changed modules that a state names


class RunSummary(NamedTuple):
    """What a run did: names of the stages that it made and of those that were up to date."""

    made: tuple[str, ...]
    up_to_date: tuple[str, ...]
    seconds: float


class StageState(NamedTuple):
    """The state of one stage; ``fingerprint`` is None where it depends on an earlier stage that is missing."""

    name: str
    fingerprint: str | None
    state: str
    manifest: Manifest | None = None


class Runner:
    """Brings the stages of a pipeline up to date.

    Parameters
    ----------
    context : RunContext
    stages : sequence of Stage
        In the order in which they run; a stage names only earlier ones as upstream.

    Attributes
    ----------
    made : list of str
        Stages that it made so far, and did not find up to date.
    """

    def __init__(self, context: RunContext, stages: Sequence[Stage]) -> None:
        self.context = context
        self.stages = {stage.name: stage for stage in stages}
        self.made: list[str] = []
        self._verifier = Verifier()

    def run(self, first: str | None = None, last: str | None = None, force: bool = False) -> RunSummary:
        """Run the stages from ``first`` to ``last``, and before them whatever they need that is missing.

        Parameters
        ----------
        first, last : str, optional
            Both inclusive; by default all stages.
        force : bool
            Make the stages from ``first`` to ``last`` again even where they are up to date.

        Raises
        ------
        ConfigError
            When a stage does not exist or ``first`` comes after ``last``.
        """
        began, made, kept = time.monotonic(), [], []
        wanted = self._between(first, last)
        for stage in self._needed(wanted):
            if self._bring_up_to_date(stage, force and stage.name in wanted):
                made.append(stage.name)
            else:
                kept.append(stage.name)
        return RunSummary(tuple(made), tuple(kept), time.monotonic() - began)

    def states(self) -> list[StageState]:
        """What is up to date and what is missing, without changing anything."""
        states: list[StageState] = []
        of_other_code: dict[str, Artifact] = {}
        for stage in self.stages.values():
            missing = [name for name in (*stage.upstream, *stage.after) if name not in self.context.artifacts]
            try:
                state = StageState(stage.name, None, f"missing (needs {', '.join(missing)})") if missing else self._state(stage)
            except Exception as error:  # what keeps a stage from being looked at (a log that changed, no champion) is its state
                states.append(StageState(stage.name, None, f"unknown: {error}"))
                continue
            if state.state.startswith("missing"):
                other = self._made_by_other_code(stage, {**self.context.artifacts, **of_other_code})
                if other is not None:
                    of_other_code[stage.name] = other
                    state = StageState(stage.name, state.fingerprint, f"made by other code ({self._what_changed(stage, other)})")
            states.append(state)
        return states

    def _state(self, stage: Stage) -> StageState:
        artifact, _ = self._locate(stage)
        manifest = artifact.manifest
        if self._is_up_to_date(stage, artifact):
            self._keep(stage, artifact)
            return StageState(stage.name, artifact.path.name, "up to date", manifest)
        return StageState(
            stage.name, artifact.path.name, "out of date" if manifest else "unfinished" if artifact.path.exists() else "missing", manifest
        )

    def _made_by_other_code(self, stage: Stage, upstream: Mapping[str, Artifact]) -> Artifact | None:
        """The newest artifact of the same settings and the same earlier stages, which only the source keeps from being up to date."""
        folder = self.context.workspace / "artifacts" / stage.name
        if not folder.is_dir() or any(name not in upstream for name in stage.upstream):
            return None
        config, found = self.context.config.section(stage.keys), []
        for artifact in map(Artifact, folder.iterdir()):
            try:
                manifest = artifact.manifest
            except ArtifactError:  # `ctr-kd status` says which
                continue
            if manifest is None or manifest.config != config:
                continue
            made_from = {name: one.fingerprint for name, one in manifest.inputs.items()}
            if all(made_from.get(name) == upstream[name].path.name for name in stage.upstream):
                found.append((manifest.started, artifact.path.name, artifact))
        return max(found)[2] if found else None

    def _what_changed(self, stage: Stage, artifact: Artifact) -> str:
        manifest = artifact.finished
        if manifest.source is None:
            return "of an earlier release"
        ready = all(name in self.context.artifacts for name in (*stage.upstream, *stage.after))
        outside = stage.outside(self.context) if stage.outside and ready else {}  # what it reads beside them may depend on them
        before = {name: one.digest or "" for name, one in manifest.inputs.items() if name not in stage.upstream}
        changed = changed_modules({**stage.source_digests, **outside}, {**manifest.source, **before})
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return f"changed: {', '.join(changed[:_SHOWN])}{more}" if changed else "by an earlier stage"

    def _between(self, first: str | None, last: str | None) -> list[str]:
        names = list(self.stages)
        for name in (first, last):
            if name is not None and name not in self.stages:
                raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(names)}")
        begin = names.index(first) if first else 0
        end = names.index(last) + 1 if last else len(names)
        if begin >= end:
            raise ConfigError(f"--from {first} comes after --until {last}; the order is {', '.join(names)}")
        return names[begin:end]

    def _needed(self, wanted: Sequence[str]) -> list[Stage]:
        needed = set(wanted)
        for stage in reversed(self.stages.values()):
            if stage.name in needed:
                needed.update(stage.upstream)
                needed.update(name for name in stage.after if name not in self.context.artifacts)
        return [stage for stage in self.stages.values() if stage.name in needed]

    def _locate(self, stage: Stage) -> tuple[Artifact, MadeFrom]:
        """The stage's artifact, whether it is up to date or not, and what it is made from."""
        outside = stage.outside(self.context) if stage.outside else {}
        upstream = {name: self.context.artifacts[name] for name in stage.upstream}
        config = self.context.config.section(stage.keys)
        source = stage.source_digests
        fingerprints = {name: one.path.name for name, one in upstream.items()}
        name = fingerprint(stage.name, digest_of(source), config, {**fingerprints, **outside})
        # The name needs only fingerprints, so equal runs have equal names everywhere; whether the artifact is up to date
        # is a question of the bytes: an earlier stage may have been made again with --force by changed code.
        inputs = {name: StageInput(fingerprint=one.path.name, digest=one.finished.digest) for name, one in upstream.items()}
        inputs |= {name: StageInput(digest=digest) for name, digest in outside.items()}
        made_from = MadeFrom(inputs=inputs, config=config, source=source)
        return Artifact(self.context.workspace / "artifacts" / stage.name / name), made_from

    def _stage_context(self, stage: Stage, artifact: Artifact) -> StageContext:
        inputs = {name: self.context.artifacts[name].path for name in stage.upstream}
        return StageContext(self.context, stage.name, stage.keys, inputs, artifact.path)

    def _is_up_to_date(self, stage: Stage, artifact: Artifact) -> bool:
        manifest = artifact.manifest
        if manifest is None:
            return False
        for name in stage.upstream:
            if manifest.inputs[name].digest != self.context.artifacts[name].finished.digest:
                return False
        return stage.up_to_date is None or stage.up_to_date(self._stage_context(stage, artifact))

    def _bring_up_to_date(self, stage: Stage, force: bool) -> bool:
        reset_peak_memory()
        self.context.force = force
        began = time.monotonic()  # looking at the world outside may be work: `ingest` reads new input there
        artifact, made_from = self._locate(stage)
        outside = {name: one.digest for name, one in made_from.inputs.items() if name not in stage.upstream and one.digest is not None}
        context = replace(self._stage_context(stage, artifact), outside=outside, began=began)
        with self._alone_with(stage, artifact):
            work = force or not self._is_up_to_date(stage, artifact)
            if work:
                self._make(stage, context, artifact, made_from, force)
            else:
                artifact.tidy()
                context.report(f"up to date ({artifact.path.name})", fingerprint=artifact.path.name)
        self._keep(stage, artifact)
        if stage.conclude:
            self._verifier.verify(artifact)
            stage.conclude(context)
        return work

    def _keep(self, stage: Stage, artifact: Artifact) -> None:
        self.context.artifacts[stage.name] = artifact
        if stage.settle:
            try:
                settled = stage.settle(self.context.config, artifact.path)
            except Exception:  # what cannot be read may be damaged, which is then what is said
                self._verifier.verify(artifact)
                raise
            if settled != self.context.config:
                self.context.given, self.context.config = self.context.config, settled

    @contextmanager
    def _alone_with(self, stage: Stage, artifact: Artifact) -> Iterator[None]:
        """Let other processes of the same command wait until the artifact is made; of the stage that fills the store, until any is."""
        folder = self.context.making
        if folder is None:
            yield
            return
        folder.mkdir(parents=True, exist_ok=True)
        with held_file(folder / (stage.name if not stage.upstream else f"{stage.name}-{artifact.path.name}")):
            yield

    def _make(self, stage: Stage, context: StageContext, artifact: Artifact, made_from: MadeFrom, force: bool) -> None:
        for name in stage.upstream:
            self._verifier.verify(self.context.artifacts[name])
        if force:
            artifact.forget()
        resumed = artifact.begin(made_from)
        name = artifact.path.name
        context.report(f"{'continues from its checkpoint' if resumed else 'begins'} ({name})", fingerprint=name, resumed=resumed)
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
        manifest = Manifest(
            stage=stage.name,
            fingerprint=name,
            inputs=made_from.inputs,
            config=made_from.config,
            source=made_from.source,
            started=started.isoformat(timespec="seconds"),
            seconds=round(context.seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
            versions=versions(),
            facts=context.recorded,
        )
        artifact.publish(manifest)
        self.made.append(stage.name)
        if tracker:
            tracker.end(context, None)
        context.report(f"done in {manifest.seconds:.1f} s", seconds=manifest.seconds, fingerprint=name, facts=context.recorded)
