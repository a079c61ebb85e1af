"""Texts have no dates: their test split through the champion, into one folder of scores."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from feature_store.tables.json_files import write_json
from pipelines.errors import ConfigError
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring.executors import score_parts
from pipelines.scoring.files import scoring_report
from pipelines.scoring.manifest import ScoresManifest
from pipelines.scoring.partitions import SCORES, is_whole, publish_scores, scores_to_replace
from pipelines.scoring.parts import PartsFolder, in_parts
from pipelines.tasks import task_of
from pipelines.workspace.context import RunContext, StageContext

SPLIT = "test"
COLUMNS = ("row_id", "text", "text_b")


class SplitScores:
    """The scores of the test texts, in ``scores/split=test``."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        if run.options.get("date"):
            raise ConfigError("texts have no dates: leave out --date to score the test split, or score the rows of a file with --input")

    @property
    def place(self) -> Path:
        """Where the scores lie."""
        return self._run.workspace / "scores" / f"split={SPLIT}"

    def made_from(self) -> dict[str, str]:
        """The texts, as far as they are assembled."""
        return {"split": SPLIT, "rows": self._run.artifacts["ingest"].path.name if "ingest" in self._run.artifacts else ""}

    def are_up_to_date(self, context: StageContext) -> bool:
        """Whether the scores are there, whole, and were made by this very scoring."""
        manifest = scores_to_replace(self.place)
        return manifest is not None and manifest.fingerprint == context.fingerprint and is_whole(self.place, manifest)

    def write(self, context: StageContext) -> None:
        """Score the test texts into one folder, which appears complete or not at all."""
        score_split(context, self.place)


def score_split(context: StageContext, final: Path) -> None:
    """Write the folder of scores of the test texts."""
    began, settings = time.monotonic(), context.config.score
    uri, version, model = load_chosen_model(context.run, context.outside["version"])
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    made_from = {"fingerprint": context.fingerprint, "rows": settings.batch_rows, "model": model.digest}
    folder = PartsFolder(final.with_name(f".{final.name}.parts"), made_from)
    try:
        texts = task_of(context.config).rows(context.run.artifacts["ingest"].path).read(SPLIT)
        texts = texts.select([name for name in COLUMNS if name in texts.column_names])
        with context.progress("texts scored", total=texts.num_rows) as progress:
            parts = in_parts(iter([texts]), settings.batch_rows)
            score_parts(
                model=model,
                version=version,
                parts=parts,
                folder=folder,
                config=context.config,
                name=f"texts of split {SPLIT}",
                progress=progress,
                stopwatch=context.run.stopwatch,
            )
        counts = folder.counts()
        folder.join(temporary / SCORES)
    except BaseException:
        shutil.rmtree(temporary)
        folder.leave()
        raise
    context.report(f"{counts.rows:,} texts of split {SPLIT} scored")
    report = scoring_report(model, counts, began, folder.resumed)
    manifest = ScoresManifest(
        split=SPLIT,
        rows=counts.rows,
        model=context.config.name,
        model_uri=uri,
        model_version=version,
        fingerprint=context.fingerprint,
        report=report,
    )
    publish_scores(temporary, final, manifest)
    context.run.stopwatch.lap("writing")
    folder.remove()
    write_json(context.output / "summary.json", manifest.summary())
    context.record({"rows": counts.rows, "rows_per_second": report.rows_per_second})
