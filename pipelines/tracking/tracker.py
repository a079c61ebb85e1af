"""MLflow tracking: one parent run per pipeline, a nested run per stage that did work.

Importing MLflow takes seconds and its first connection migrates a database, so both wait until a stage has work to do, and happen beside
that work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from pydantic import AliasChoices, Field

from feature_store.tables.json_files import digest_of
from feature_store.tables.json_models import JsonFile
from pipelines.config.run import describe
from pipelines.tracking.calls import (
    CONFIGURATION,
    KEY_PATTERN,
    LOGGED_FILES,
    Call,
    DatasetFacts,
    EndRun,
    LogDatasets,
    LogFiles,
    LogMetrics,
    OpenRun,
    RunKey,
    SetTags,
    flatten,
)
from pipelines.tracking.offline_queue import OfflineQueue
from pipelines.tracking.system_metrics import SystemMetrics
from pipelines.workspace.manifest import MadeFrom

if TYPE_CHECKING:
    from pipelines.workspace.context import RunContext, StageContext, TrialFacts

_REPORT = ("report.html", "metrics.json")  # shown at the pipeline's run too
_MOST_METRICS = 1000  # kept before they are sent
_SECONDS_BETWEEN_FLUSHES = 10.0


class OpenPipelineRun(JsonFile):
    """The run of the pipeline that is open, for a command that goes on after a kill.

    Attributes
    ----------
    pipeline : str
        Digest of the configuration and the logical time; release 0.1 called it ``road``.
    run, experiment : str
        Key of the run, and its experiment.
    closed : bool
        Whether the server was told that it was killed.
    """

    FILE: ClassVar[str] = ".open_run.json"

    pipeline: str = Field(validation_alias=AliasChoices("pipeline", "road"))
    run: str = Field(pattern=KEY_PATTERN)
    experiment: str
    closed: bool = False


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
        self._pipeline_run: RunKey | None = None
        self._stage: RunKey | None = None
        self._told: set[str] = set()  # datasets of the pipeline's run
        self._metrics: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()

    def begin(self, run: RunContext, stage: str, made_from: MadeFrom, fingerprint: str) -> None:
        """Open the run of a stage, and the pipeline's before the first of them."""
        pipeline = self._pipeline_run or self._open_pipeline_run(run)
        datasets = _datasets(run, made_from)
        tags = {"stage": stage, "fingerprint": fingerprint}
        tags |= {f"input.{name}": str(one.fingerprint or one.digest) for name, one in made_from.inputs.items()}
        self._pipeline_run, self._stage = pipeline, RunKey(pipeline.experiment, uuid4().hex)
        digest = {"data.digest": datasets[0].digest} if datasets else {}
        new = [one for one in datasets if one.name not in self._told]
        self._told |= {one.name for one in new}
        if new:
            self._send(SetTags(**pipeline._asdict(), tags=digest))
            self._send(LogDatasets(**pipeline._asdict(), datasets=new))
        key, parameters = self._stage._asdict(), flatten(made_from.config)
        self._send(OpenRun(**key, name=stage, time=_now(), parent=pipeline.key, tags=tags | digest, parameters=parameters))
        if datasets:
            self._send(LogDatasets(**key, datasets=datasets))
        if run.config.tracking.system_metrics:
            self._system.start(self.stage)

    @property
    def stage(self) -> str | None:
        """MLflow's id of the running stage's run; None where the server does not answer."""
        return None if self._stage is None else self._queue.id_of(self._stage)

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
        stage, self._stage, pipeline = self._stage, None, self._pipeline_run
        if stage is None or pipeline is None:
            return
        if error is None:
            folder = context.output.relative_to(self._workspace)
            there = [name for name in LOGGED_FILES if (context.output / name).exists()]
            if there:
                self._send(LogFiles(**stage._asdict(), files=[str(folder / name) for name in there]))
            if _REPORT[0] in there:
                self._send(LogFiles(**pipeline._asdict(), files=[str(folder / name) for name in _REPORT if name in there]))
            if recorded:  # what a search over pipelines asks for
                numbers = [(f"{context.stage}.{name}", float(value), _now(), 0) for name, value in recorded.items()]
                self._send(LogMetrics(**pipeline._asdict(), metrics=numbers))
        self._send(EndRun(**stage._asdict(), status=_status(error), time=_now()))

    def trial(self, run: RunContext, trial: TrialFacts) -> None:
        """Note a trial of a search, which has ended, below the pipeline's run."""
        pipeline = self._pipeline_run = self._pipeline_run or self._open_pipeline_run(run)
        key, began, ended = RunKey(pipeline.experiment, uuid4().hex)._asdict(), _milliseconds(trial.began), _milliseconds(trial.ended)
        parameters = flatten(trial.parameters)
        self._send(OpenRun(**key, name=trial.name, time=began, parent=pipeline.key, tags=dict(trial.tags), parameters=parameters))
        numbers = [(name, float(value), ended, 0) for name, value in trial.metrics.items()]
        numbers += [("validation", value, ended, step) for step, value in trial.points.items()]
        if numbers:
            self._send(LogMetrics(**key, metrics=numbers))
        self._send(EndRun(**key, status="FINISHED" if trial.worked else "FAILED", time=ended))

    def finish(self, error: BaseException | None = None) -> None:
        """Close the pipeline's run, or where this command had nothing to do the one that a kill left open; send what still waits."""
        left = self._left_open()
        if self._pipeline_run is not None:
            (self._workspace / OpenPipelineRun.FILE).unlink(missing_ok=True)
            self._send(EndRun(**self._pipeline_run._asdict(), status=_status(error), time=_now()))
            self._pipeline_run = None
        elif left and not left.closed:
            left.model_copy(update={"closed": True}).write(self._workspace)  # said once; the pipeline may still go on under it
            self._send(EndRun(experiment=left.experiment, key=left.run, status="KILLED", time=_now()))
        self._queue.deliver(now=True)

    def _left_open(self) -> OpenPipelineRun | None:
        try:
            return OpenPipelineRun.read(self._workspace)
        except (OSError, ValueError):  # of no use, and no reason to fail
            return None

    def _flush(self) -> None:
        metrics, self._metrics, self._flushed = self._metrics, [], time.monotonic()
        if metrics and self._stage is not None:
            self._send(LogMetrics(**self._stage._asdict(), metrics=metrics))

    def _send(self, call: Call) -> None:
        self._queue.prepare()
        self._queue.send(call)

    def _open_pipeline_run(self, run: RunContext) -> RunKey:
        """Open the run of this pipeline, or go on under the one that a killed run of the same pipeline left."""
        resolved = run.as_given.model_dump(mode="json", by_alias=True)
        pipeline = digest_of([resolved, run.as_of.isoformat() if run.as_of else None])
        known = self._left_open()
        opened = RunKey(
            run.config.tracking.experiment or run.config.name, known.run if known and known.pipeline == pipeline else uuid4().hex
        )
        if known and known.run != opened.key and not known.closed:
            self._send(EndRun(experiment=known.experiment, key=known.run, status="KILLED", time=_now()))
        OpenPipelineRun(pipeline=pipeline, run=opened.key, experiment=opened.experiment).write(self._workspace)
        self._send(
            OpenRun(
                **opened._asdict(),
                name=f"{run.config.name} {run.started:%Y-%m-%d %H:%M:%S}",
                tags={"pipeline": pipeline, "seed": str(run.config.seed)},
                parameters=flatten(resolved),
                texts={CONFIGURATION: describe(run.config)},
                time=_now(),
            )
        )
        return opened


def _datasets(run: RunContext, made_from: MadeFrom) -> list[DatasetFacts]:
    """The events that a stage descends from, and where they have become rows those too: name, digest, source and sizes."""
    ingest = run.artifacts.get("ingest")
    manifest = ingest.manifest if ingest else None
    store = (manifest or made_from).inputs.get("store")
    if store is None or not store.digest:
        return []
    found = [DatasetFacts(name=f"{run.config.name} events", digest=store.digest, source="store/events")]
    if ingest is not None and manifest is not None:
        sizes = {key: value for key, value in manifest.facts.items() if isinstance(value, (int, float, dict))}
        source = ingest.path.relative_to(run.workspace).as_posix()
        found.append(DatasetFacts(name=f"{run.config.name} rows", digest=manifest.digest, source=source, profile=sizes))
    return found


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
