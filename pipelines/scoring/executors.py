"""Who scores: this process, one worker process per core, or the executors of a Spark session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa

from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.registry.loaded_model import LoadedModel
from pipelines.scoring.local_executor import InProcess, WorkerPool
from pipelines.scoring.parts import Part, PartsFolder
from pipelines.scoring.spark_executor import SparkPool
from pipelines.scoring.worker import write_items
from pipelines.workspace.console import Progress
from pipelines.workspace.stopwatch import Stopwatch


def score_parts(
    *,
    model: LoadedModel,
    version: str,
    parts: Iterator[Part],
    folder: PartsFolder,
    config: RunConfig,
    name: str,
    progress: Progress,
    stopwatch: Stopwatch,
    items: pa.Table | None = None,
) -> None:
    """Score all parts that are not finished yet.

    Parameters
    ----------
    model : LoadedModel
    version : str
    parts : iterator of Part
        Those that are in the folder already are passed over.
    folder : PartsFolder
    config : RunConfig
        ``score.engine`` and ``score.workers`` say who scores; where one part is all there is, this process does.
    name : str
        What the rows are, for messages.
    progress : Progress
        Counts rows.
    stopwatch : Stopwatch
        Started here, where it is wanted; the one who asks ends the last part.
    items : pyarrow Table, optional
        What the model was told of items that are younger than it; other processes are told too.

    Raises
    ------
    ConfigError
        When costs on the executors of Spark are wanted.
    DataError
        When rows cannot be scored; it names the first row of their part.
    ScoringStopped
        When a worker died, or memory or a disk is full.
    """
    progress.advance(folder.resumed)
    count = config.score.workers or cores()
    on_spark = config.score.engine == "spark"
    if on_spark and stopwatch.wanted:
        raise ConfigError("--profile tells of processes of this machine: leave it out, or set score.engine=local")
    stopwatch.start()
    missing = _read((part for part in parts if part.number not in folder.finished), stopwatch)
    ahead = [part for part in (next(missing, None), next(missing, None)) if part is not None]
    if items is not None:
        write_items(items, folder.path)
    pool: SparkPool | WorkerPool | InProcess
    if on_spark and ahead:
        pool = SparkPool(model, version, folder, config.feature_store, name)
    elif count > 1 and len(ahead) > 1:
        pool = WorkerPool(model, version, folder, count, name, stopwatch=stopwatch)
    else:
        pool = InProcess(model, version, folder, name, stopwatch=stopwatch)
    with pool:
        for number, counts in pool.score(_each(ahead, missing)):
            folder.finished[number] = counts
            progress.advance(counts.rows)
            stopwatch.rows += counts.rows


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(parts: Iterator[Part], stopwatch: Stopwatch) -> Iterator[Part]:
    for part in parts:
        stopwatch.lap("reading", part.rows)
        yield part


def _each(ahead: list[Part], others: Iterator[Part]) -> Iterator[Part]:
    """Those that were looked at already, each let go of when it is given away, and the others."""
    while ahead:
        yield ahead.pop(0)
    yield from others
