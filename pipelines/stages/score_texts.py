"""Texts have no dates: stage ``score`` scores their test split, into ``scores/split=test``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.scoring_report import ScoringCounts
from pipelines.artifacts import write_json
from pipelines.config import ConfigError
from pipelines.partitions import SCORES, is_whole, publish_scores, read_scores
from pipelines.runner import RunContext, StageContext
from pipelines.scoring_files import scored, scoring_report
from pipelines.text_rows import open_rows

if TYPE_CHECKING:
    from pipelines.served_model import ServedModel

SPLIT = "test"
COLUMNS = ("row_id", "text", "text_b")


def is_asked(run: RunContext) -> bool:
    """Whether the rows of a run are texts.

    Raises
    ------
    ConfigError
        When they are, and a date was named.
    """
    if run.config.source.reader != "text":
        return False
    if run.options.get("date"):
        raise ConfigError("texts have no dates: leave out --date to score the test split, or score the rows of a file with --input")
    return True


def partition(run: RunContext) -> Path:
    """Where the scores of the test texts lie."""
    return run.workspace / "scores" / f"split={SPLIT}"


def inputs(run: RunContext) -> dict[str, str]:
    """The texts, as far as they are assembled."""
    return {"split": SPLIT, "rows": run.artifacts["ingest"].path.name if "ingest" in run.artifacts else ""}


def stands(context: StageContext) -> bool:
    """Whether the scores are there, whole, and were made by this very scoring."""
    path = partition(context.run)
    manifest = read_scores(path)
    return manifest is not None and manifest.get("fingerprint") == context.fingerprint and is_whole(path, manifest)


def score_split(context: StageContext, model: ServedModel, named: Mapping[str, str]) -> None:
    """Score the test texts into one folder, which appears complete or not at all; ``named`` says which model it is."""
    began, counts, final = time.monotonic(), ScoringCounts(), partition(context.run)
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    batches = text_batches(context)
    first = next(batches)
    carried, version = [name for name in COLUMNS if name in first.column_names], named["model_version"]
    schema = scored(first.slice(0, 0).select(carried), model.answer(model.nothing()), version).schema
    with pq.ParquetWriter(temporary / SCORES, schema) as writer, context.progress("texts scored", total=None) as progress:
        for batch in (first, *batches):
            scores = model.scorer.score(batch)
            counts += model.count(batch, scores)
            writer.write_table(scored(batch.select(carried), model.answer(scores), version).cast(schema))
            progress.advance(batch.num_rows)
    context.report(f"{counts.rows:,} texts of split {SPLIT} scored")
    facts: dict[str, Any] = {"split": SPLIT, "rows": counts.rows, "model": context.config.name, **named}
    report = scoring_report(model, counts, began)
    publish_scores(temporary, final, facts, {"fingerprint": context.fingerprint}, report)
    write_json(context.output / "summary.json", facts | report)
    context.record({"rows": counts.rows, "rows_per_second": report["rows_per_second"]})


def text_batches(context: StageContext) -> Iterator[pa.Table]:
    """The test texts in tables of at most ``score.batch_rows``; at least one table."""
    rows = open_rows(context.run.artifacts["ingest"].path)
    test, size = rows.read(SPLIT), context.config.score.batch_rows
    for begin in range(0, max(test.num_rows, 1), size):
        yield test.slice(begin, size)
