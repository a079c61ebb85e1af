"""Stage ``score``: a date's candidates, or the rows of a file, through the champion."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.contracts import DataError
from pipelines.artifacts import MANIFEST, ArtifactError, publish_directory, read_json, sha256_of, write_json
from pipelines.config import ConfigError
from pipelines.joining import open_joiner
from pipelines.registry import CHAMPION, Registry, load_scorer, peek
from pipelines.runner import RunContext, Stage, StageContext
from pipelines.text_rows import TextRows, open_rows
from pipelines.tracking import TrackingError, tracking_uri

SCORE_COLUMNS = ("request_id", "user_id", "item_id", "timestamp")
TEXT_COLUMNS = ("row_id", "text", "text_b")


def model_uri(run: RunContext) -> str:
    """The model to score with: the one that was named, or the champion."""
    return run.options.get("model") or f"models:/{run.config.name}@{CHAMPION}"


def model_version(run: RunContext) -> str:
    """Version behind the model's URI, as far as it has one.

    Raises
    ------
    TrackingError
        When the alias names no version.
    """
    uri = model_uri(run)
    if not uri.startswith("models:/"):
        return uri
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        return name.rpartition("/")[2]
    version = peek(tracking_uri(run.config, run.workspace), name, alias)
    if version is None:
        raise TrackingError(f"{name} has no {alias}: no student has passed the gate yet; run `ctr-kd register` or `ctr-kd promote`")
    return version


def scoring_date(run: RunContext) -> date:
    """The date that was named, or the last one of the test window."""
    if run.options.get("date"):
        return run.options["date"]
    summary = json.loads((run.artifacts["ingest"].path / "summary.json").read_text(encoding="utf-8"))
    return (datetime.fromisoformat(summary["split"]["test_until"]) - timedelta(microseconds=1)).date()


def what_is_scored(run: RunContext) -> tuple[str, str]:
    """Name and value of what is scored: a date of clicks, or the test split of texts, which have no dates.

    Raises
    ------
    ConfigError
        When a date was named and the rows are texts.
    """
    if not isinstance(open_rows(run.artifacts["ingest"].path), TextRows):
        return "date", scoring_date(run).isoformat()
    if run.options.get("date"):
        raise ConfigError("texts have no dates: leave out --date to score the test split, or score the rows of a file with --input")
    return "split", "test"


def partition(run: RunContext) -> Path:
    """Where the scores lie."""
    return run.workspace / "scores" / "=".join(what_is_scored(run))


def inputs(run: RunContext) -> dict[str, str]:
    """The rows and the model: what decides the scores besides the store."""
    return dict([what_is_scored(run)]) | {"model": f"{model_uri(run)} version {model_version(run)}"}


def partition_stands(context: StageContext) -> bool:
    """Whether the partition is there, whole, and was made by this very scoring; another model may have written it since."""
    path = partition(context.run)
    try:
        manifest = read_json(path / MANIFEST)
    except ArtifactError:  # a damaged partition is no cause for alarm: it is made again
        return False
    return (
        manifest is not None
        and manifest.get("fingerprint") == context.fingerprint
        and all((path / name).is_file() and sha256_of(path / name) == file["sha256"] for name, file in manifest["files"].items())
    )


def run(context: StageContext) -> None:
    """Score the date's candidates, or the test texts, into one partition, which appears complete or not at all."""
    began = time.monotonic()
    config, version = context.config, model_version(context.run)
    kind, which = what_is_scored(context.run)
    scorer = load_model(context.run)
    final = partition(context.run)
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    rows, midnight = 0, None
    if kind == "date":
        day = date.fromisoformat(which)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        batches = candidate_batches(context, day)
    else:
        batches = text_batches(context)
    first = next(batches)
    carried = [name for name in (*SCORE_COLUMNS, *TEXT_COLUMNS) if name in first.column_names]
    schema = _answered(first.slice(0, 0).select(carried), scorer, version).schema
    temporary.mkdir(parents=True)
    with (
        pq.ParquetWriter(temporary / "scores.parquet", schema) as writer,
        open_joiner(context.run, scorer.signature, midnight) as joiner,
        context.progress("rows scored", total=None) as progress,
    ):
        for batch in chain([first], batches):
            writer.write_table(_answered(batch.select(carried), scorer, version, scorer.score(joiner.join(batch))).cast(schema))
            rows += batch.num_rows
            progress.advance(batch.num_rows)
    context.report(f"{rows:,} rows of {kind} {which} scored")
    facts = {kind: which, "rows": rows, "model": config.name, "model_uri": model_uri(context.run), "model_version": version}
    files = {"scores.parquet": {"sha256": sha256_of(temporary / "scores.parquet")}}
    write_json(temporary / MANIFEST, {**facts, "fingerprint": context.fingerprint, "files": files})
    publish_directory(temporary, final)
    seconds = time.monotonic() - began
    write_json(context.output / "summary.json", {**facts, "seconds": round(seconds, 3), **files})
    context.record({"rows": rows, "rows_per_second": rows / seconds})


def candidate_batches(context: StageContext, day: date) -> Iterator[pa.Table]:
    """What is to be scored, in order of time and request, in tables of at most ``score.batch_rows``; at least one table."""
    from feature_store.serving import candidate_batches_on

    config, size = context.config, context.config.score.batch_rows
    for part in candidate_batches_on(context.store, day, config.assembly, config.feature_store, context.as_of, config.score.candidates):
        for begin in range(0, part.num_rows, size):
            yield part.slice(begin, size)


def text_batches(context: StageContext) -> Iterator[pa.Table]:
    """The test texts in tables of at most ``score.batch_rows``; at least one table."""
    test, size = open_rows(context.inputs["ingest"]).read("test"), context.config.score.batch_rows
    for begin in range(0, max(test.num_rows, 1), size):
        yield test.slice(begin, size)


def answer_columns(scorer: Any, scores: np.ndarray) -> dict[str, pa.Array]:
    """What a model says of rows, as columns: ``score`` of clicks; ``label``, ``score`` and a column per class of classes."""
    if scores.ndim == 1:
        return {"score": pa.array(scores, pa.float64())}
    best = scores.argmax(axis=1)
    columns = {"label": pa.array(scorer.classes, pa.string()).take(pa.array(best))}
    columns["score"] = pa.array(scores[np.arange(len(best)), best], pa.float64())
    return columns | {name: pa.array(scores[:, i], pa.float64()) for i, name in enumerate(scorer.columns)}


def _answered(table: pa.Table, scorer: Any, version: str, scores: np.ndarray | None = None) -> pa.Table:
    """A table with what the model says of it and the model's version; without scores, of no row."""
    if scores is None:
        scores = np.zeros((0, len(scorer.classes))) if "classes" in scorer.signature else np.zeros(0)
    return _scored(table, answer_columns(scorer, scores) | {"model_version": pa.array([version] * table.num_rows, pa.string())})


def score_file(run: RunContext, source: Path, target: Path, batch_rows: int | None = None) -> str:
    """Write the rows of a Parquet file, in their order and with all their columns, with ``score`` added.

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
    scorer = load_model(run)
    temporary = target.with_name(f".{target.name}.tmp")
    rows, began = 0, time.monotonic()
    try:
        with open_parquet(source) as file:
            none = np.zeros((0, len(scorer.classes))) if "classes" in scorer.signature else np.zeros(0)
            schema = _scored(file.schema_arrow.empty_table(), answer_columns(scorer, none)).schema
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(temporary, schema) as writer:
                for table, scores in scored_batches(run, scorer, file, source, batch_rows or run.config.score.batch_rows):
                    writer.write_table(_scored(table, answer_columns(scorer, scores)))
                    rows += table.num_rows
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.monotonic() - began
    return f"{rows:,} rows scored with {model_uri(run)} (version {model_version(run)}) in {seconds:.1f} s: {target}"


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file that somebody gave us; DataError when it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is no complete Parquet file ({str(error).splitlines()[0]}); write it again") from None


def scored_batches(run: RunContext, scorer: Any, file: pq.ParquetFile, name: Path, size: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Pieces of a file with their scores (rows,), or (rows, classes)."""
    if "classes" not in scorer.signature:
        check_columns(file.schema_arrow, name)
    done = 0
    with open_joiner(run, scorer.signature) as joiner:
        for batch in file.iter_batches(size):
            table = pa.Table.from_batches([batch])
            try:
                scores = scorer.score(joiner.join(table))
            except (DataError, ValueError) as error:  # ValueError: of the model's own scorer, which cannot know our exceptions
                raise DataError(f"{name}, rows from {done + 1:,} on: {error}") from None
            yield table, scores
            done += table.num_rows


def check_columns(schema: pa.Schema, name: Path) -> None:
    """Raise DataError unless a file has the columns that a row needs."""
    for column in ("item_id", "timestamp"):
        if column not in schema.names:
            raise DataError(f"{name}: column {column} is missing; a row needs item_id, timestamp, and history or user_id")
    if "history" not in schema.names and "user_id" not in schema.names:
        raise DataError(f"{name}: column history is missing, and so is user_id by which it could be joined; a row needs one of them")


def _scored(table: pa.Table, answer: Mapping[str, pa.Array]) -> pa.Table:
    for name, column in answer.items():
        if name in table.column_names:  # a file that was scored before is scored anew
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def load_model(run: RunContext) -> Any:
    """The scorer inside the registered model, after its digests were checked."""
    registry = Registry(tracking_uri(run.config, run.workspace), run.config.name)
    return load_scorer(registry.download(model_uri(run)))


STAGE = Stage(
    "score",
    run,
    # It scores with the champion, whoever registered it: the model is an input from outside.
    upstream=("ingest",),
    keys=("name", "score.candidates", "tracking.uri"),
    outside=inputs,
    stands=partition_stands,
)
