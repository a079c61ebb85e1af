"""Texts have no dates: stage ``score`` scores their test split, into ``scores/split=test``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.tables.json_files import write_json
from pipelines.errors import ConfigError
from pipelines.scoring.executors import score_parts
from pipelines.scoring.files import scoring_report
from pipelines.scoring.partitions import SCORES, is_whole, publish_scores, read_scores
from pipelines.scoring.parts import PartsFolder, in_parts
from pipelines.tasks.texts import open_rows
from pipelines.workspace.context import RunContext, StageContext

if TYPE_CHECKING:
    from pipelines.registry.loaded_model import OpenedModel

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


def is_up_to_date(context: StageContext) -> bool:
    """Whether the scores are there, whole, and were made by this very scoring."""
    path = partition(context.run)
    manifest = read_scores(path)
    return manifest is not None and manifest.get("fingerprint") == context.fingerprint and is_whole(path, manifest)


def score_split(context: StageContext, model: OpenedModel, named: Mapping[str, str]) -> None:
    """Score the test texts into one folder, which appears complete or not at all; ``named`` says which model it is."""
    began, final, settings = time.monotonic(), partition(context.run), context.config.score
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    made_from = {"fingerprint": context.fingerprint, "rows": settings.batch_rows, "model": model.digest}
    folder = PartsFolder(final.with_name(f".{final.name}.parts"), made_from)
    try:
        texts = open_rows(context.run.artifacts["ingest"].path).read(SPLIT)
        texts = texts.select([name for name in COLUMNS if name in texts.column_names])
        with context.progress("texts scored", total=texts.num_rows) as progress:
            parts = in_parts(iter([texts]), settings.batch_rows)
            score_parts(model, named["model_version"], parts, folder, context.config, f"texts of split {SPLIT}", progress)
        counts = folder.counts()
        folder.join(temporary / SCORES)
    except BaseException:
        shutil.rmtree(temporary)
        folder.leave()
        raise
    context.report(f"{counts.rows:,} texts of split {SPLIT} scored")
    facts: dict[str, Any] = {"split": SPLIT, "rows": counts.rows, "model": context.config.name, **named}
    report = scoring_report(model, counts, began, folder.resumed)
    publish_scores(temporary, final, facts, {"fingerprint": context.fingerprint}, report)
    folder.remove()
    write_json(context.output / "summary.json", facts | report)
    context.record({"rows": counts.rows, "rows_per_second": report["rows_per_second"]})
