"""Stage ``score``: a date's candidates, or the rows of a file, through the champion."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.contracts import DataError
from pipelines.artifacts import MANIFEST, digest_of, publish_directory, sha256_of, write_json
from pipelines.failures import exit_code, explain
from pipelines.joining import Joiner
from pipelines.partitions import (
    SCORES,
    SETTINGS,
    clear_attempt,
    forget_failure,
    is_later,
    is_whole,
    made_from,
    partition_path,
    read_partition,
    record_failure,
    unfinished_path,
)
from pipelines.registry import CHAMPION, Registry, load_scorer, peek
from pipelines.runner import RunContext, Stage, StageContext
from pipelines.tracking import TrackingError, tracking_uri

SCORE_COLUMNS = ("request_id", "user_id", "item_id", "timestamp")


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
    """The date that was named, or the last one of the test window.

    Raises
    ------
    DataError
        When none was named and there is no test window yet.
    """
    if run.options.get("date"):
        return run.options["date"]
    if "ingest" not in run.artifacts:
        raise DataError("no date was named and no rows are assembled yet; name one with --date, or run `ctr-kd ingest`")
    summary = json.loads((run.artifacts["ingest"].path / "summary.json").read_text(encoding="utf-8"))
    return (datetime.fromisoformat(summary["split"]["test_until"]) - timedelta(microseconds=1)).date()


def partition(run: RunContext) -> Path:
    """Where the scores of the date lie."""
    return partition_path(run.workspace, scoring_date(run))


def inputs(run: RunContext) -> dict[str, str]:
    """The date, the model, and what the store holds for that date: a later day of the log changes nothing of it."""
    day = scoring_date(run)
    return {
        "date": day.isoformat(),
        "model": f"{model_uri(run)} version {model_version(run)}",
        "made_from": digest_of(made_from(run.store, run.config, day, run.as_of)),
    }


def partition_stands(context: StageContext) -> bool:
    """Whether the partition is there, whole, and was made by this very scoring; another model may have written it since."""
    day = scoring_date(context.run)
    manifest = read_partition(context.workspace, day)
    return manifest is not None and manifest.get("fingerprint") == context.fingerprint and is_whole(context.workspace, day, manifest)


def run(context: StageContext) -> None:
    """Score the date's candidates into one partition, which appears complete or not at all; a failure is remembered with its reason."""
    day = scoring_date(context.run)
    origin = made_from(context.store, context.config, day, context.as_of)
    standing = read_partition(context.workspace, day)
    if standing is not None and is_later(standing["made_from"], origin) and is_whole(context.workspace, day, standing):
        # A clock that jumped back must not take rows away that are already scored.
        path = partition_path(context.workspace, day)
        context.report(
            f"{path} was scored at a later logical time than {origin['as_of']} and stays; remove it to score the date as of then"
        )
        write_json(context.output / "summary.json", {"date": day.isoformat(), "kept": standing["fingerprint"]})
        return
    try:
        score_date(context, day, origin)
    except Exception as error:
        clear_attempt(context.workspace, day)
        record_failure(context.workspace, day, explain(error, context.workspace), exit_code(error))
        raise
    forget_failure(context.workspace, day)


def score_date(context: StageContext, day: date, origin: dict[str, Any]) -> None:
    """Write the partition of a date, with ``origin`` in its manifest."""
    began = time.monotonic()
    config, version = context.config, model_version(context.run)
    scorer = load_model(context.run)
    temporary = unfinished_path(context.workspace, day)
    clear_attempt(context.workspace, day)
    temporary.mkdir(parents=True)
    rows, midnight = 0, datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    batches = candidate_batches(context, day)
    first = next(batches)
    named = [first.schema.field(name) for name in SCORE_COLUMNS]
    schema = pa.schema([*named, pa.field("score", pa.float64()), pa.field("model_version", pa.string())])
    with (
        pq.ParquetWriter(temporary / SCORES, schema) as writer,
        Joiner(context.run, scorer.signature, midnight) as joiner,
        context.progress("candidates scored", total=None) as progress,
    ):
        for batch in chain([first], batches):
            scores = pa.array(scorer.score(joiner.join(batch)), pa.float64())
            columns = [*(batch[name] for name in SCORE_COLUMNS), scores, pa.repeat(version, batch.num_rows)]
            writer.write_table(pa.table(columns, schema=schema))
            rows += batch.num_rows
            progress.advance(batch.num_rows)
    context.report(f"{rows:,} candidates of {day} scored")
    facts = {"date": day.isoformat(), "rows": rows, "model": config.name, "model_uri": model_uri(context.run), "model_version": version}
    files = {SCORES: {"sha256": sha256_of(temporary / SCORES)}}
    write_json(temporary / MANIFEST, {**facts, "fingerprint": context.fingerprint, "made_from": origin, "files": files})
    publish_directory(temporary, partition_path(context.workspace, day))
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
            schema = _scored(file.schema_arrow.empty_table(), pa.array([], pa.float64())).schema
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(temporary, schema) as writer:
                for table, scores in scored_batches(run, scorer, file, source, batch_rows or run.config.score.batch_rows):
                    writer.write_table(_scored(table, scores))
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


def scored_batches(run: RunContext, scorer: Any, file: pq.ParquetFile, name: Path, size: int) -> Iterator[tuple[pa.Table, pa.Array]]:
    """Pieces of a file with their scores."""
    check_columns(file.schema_arrow, name)
    done = 0
    with Joiner(run, scorer.signature) as joiner:
        for batch in file.iter_batches(size):
            table = pa.Table.from_batches([batch])
            try:
                scores = scorer.score(joiner.join(table))
            except (DataError, ValueError) as error:  # ValueError: of the model's own scorer, which cannot know our exceptions
                raise DataError(f"{name}, rows from {done + 1:,} on: {error}") from None
            yield table, pa.array(scores, pa.float64())
            done += table.num_rows


def check_columns(schema: pa.Schema, name: Path) -> None:
    """Raise DataError unless a file has the columns that a row needs."""
    for column in ("item_id", "timestamp"):
        if column not in schema.names:
            raise DataError(f"{name}: column {column} is missing; a row needs item_id, timestamp, and history or user_id")
    if "history" not in schema.names and "user_id" not in schema.names:
        raise DataError(f"{name}: column history is missing, and so is user_id by which it could be joined; a row needs one of them")


def _scored(table: pa.Table, scores: pa.Array) -> pa.Table:
    if "score" in table.column_names:  # a file that was scored before is scored anew
        return table.set_column(table.column_names.index("score"), "score", scores)
    return table.append_column("score", scores)


def load_model(run: RunContext) -> Any:
    """The scorer inside the registered model, after its digests were checked."""
    registry = Registry(tracking_uri(run.config, run.workspace), run.config.name)
    return load_scorer(registry.download(model_uri(run)))


STAGE = Stage(
    "score",
    run,
    # It scores with the champion, whoever registered it: the model is an input from outside. Of the rows to learn from it reads nothing,
    # so that a day which comes to the log makes no earlier date be scored again.
    keys=("name", "tracking.uri", *SETTINGS),
    code_version=2,
    outside=inputs,
    stands=partition_stands,
    after=("ingest",),
)
