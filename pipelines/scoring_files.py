"""Rows of a Parquet file through a registered student: the same rows come back with their scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.scoring_report import ScoringCounts, summarise
from feature_store.contracts import DataError
from pipelines.artifacts import write_json
from pipelines.joining import open_joiner
from pipelines.partitions import REPORT
from pipelines.runner import RunContext
from pipelines.served_model import ServedModel, load_model, model_uri, model_version


def score_file(run: RunContext, source: Path, target: Path, batch_rows: int | None = None) -> str:
    """Write the rows of a Parquet file, in their order and with all their columns, with ``score`` and ``model_version`` added.

    What the scoring saw is written beside it, as ``NAME.scoring.json``.

    Parameters
    ----------
    run : RunContext
    source, target : Path
        Parquet files; the target appears complete or not at all.
    batch_rows : int, optional
        Rows in memory at a time; ``score.batch_rows`` by default.

    Returns
    -------
    str
        What was done, in a line.

    Raises
    ------
    DataError
        When a required column is missing or has a wrong type, or the file is no Parquet.
    """
    model, version, began = load_model(run), model_version(run), time.monotonic()
    temporary = target.with_name(f".{target.name}.tmp")
    counts = ScoringCounts()
    try:
        with open_parquet(source) as file:
            if run.config.score.top is not None and "user_id" not in file.schema_arrow.names:
                raise DataError(f"{source}: column user_id is missing; score.top keeps the best rows of each user")
            schema = scored(file.schema_arrow.empty_table(), model.answer(model.nothing()), version).schema
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(temporary, schema) as writer:
                for table, scores, counted in scored_batches(run, model, file, source, batch_rows or run.config.score.batch_rows):
                    writer.write_table(scored(table, model.answer(scores), version))
                    counts += counted
        keep_best_rows(run, temporary)
        temporary.replace(target)
    finally:
        for left in (temporary, temporary.with_name(f"{temporary.name}.best")):
            left.unlink(missing_ok=True)
    report = scoring_report(model, counts, began)
    write_json(target.with_name(f"{target.stem}.{REPORT}"), {"model_uri": model_uri(run), "model_version": version} | report)
    return f"{counts.rows:,} rows scored with {model_uri(run)} (version {version}) in {report['seconds']:.1f} s: {target}"


def keep_best_rows(run: RunContext, file: Path) -> int | None:
    """Leave the best ``score.top`` rows of each user in a file that is not published yet; how many, or None where all are kept."""
    if run.config.score.top is None:
        return None
    from feature_store.top import keep_best

    best = file.with_name(f"{file.name}.best")
    kept = keep_best(file, best, run.config.score.top, run.config.feature_store)
    best.replace(file)
    return kept


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file that somebody gave us; DataError when it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is no complete Parquet file ({str(error).splitlines()[0]}); write it again") from None


def scored_batches(
    run: RunContext, model: ServedModel, file: pq.ParquetFile, name: Path, size: int
) -> Iterator[tuple[pa.Table, np.ndarray, ScoringCounts]]:
    """Pieces of a file with their scores, (rows,) or (rows, classes), and what was counted of them."""
    if not model.has_classes:
        check_columns(file.schema_arrow, name)
    done = 0
    with open_joiner(run, model.scorer.signature) as joiner:
        for batch in file.iter_batches(size):
            table = pa.Table.from_batches([batch])
            try:
                joined = joiner.join(table)
                scores = model.scorer.score(joined)
            except (DataError, ValueError) as error:  # ValueError: of the model's own scorer, which cannot know our exceptions
                raise DataError(f"{name}, rows from {done + 1:,} on: {error}") from None
            yield table, scores, model.count(joined, scores)
            done += table.num_rows


def check_columns(schema: pa.Schema, name: Path) -> None:
    """Raise DataError unless a file has the columns that a row needs."""
    for column in ("item_id", "timestamp"):
        if column not in schema.names:
            raise DataError(f"{name}: column {column} is missing; a row needs item_id, timestamp, and history or user_id")
    if "history" not in schema.names and "user_id" not in schema.names:
        raise DataError(f"{name}: column history is missing, and so is user_id by which it could be joined; a row needs one of them")


def scored(table: pa.Table, answer: Mapping[str, pa.Array], version: str) -> pa.Table:
    """A table with what the model says of its rows, and the model's version."""
    for name, column in {**answer, "model_version": pa.repeat(version, table.num_rows)}.items():
        if name in table.column_names:  # a file that was scored before is scored anew
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def scoring_report(model: ServedModel, counts: ScoringCounts, began: float) -> dict[str, Any]:
    """What a scoring saw and how fast it was; see :func:`ctr_kd.scoring_report.summarise`. ``began`` is of ``time.monotonic``."""
    seconds = time.monotonic() - began
    speed = {"seconds": round(seconds, 3), "rows_per_second": round(counts.rows / seconds, 1)}
    return {**summarise(counts, model.edges, model.reference), **speed}
