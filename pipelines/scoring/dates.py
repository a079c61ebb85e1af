"""Clicks come by date: a date's candidates through the champion, into one partition."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from feature_store.features.summary import ClickSummary, SplitTimes
from feature_store.readers.remote import require_writable
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import digest_of, write_json
from pipelines.exit_codes import exit_code, explain
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring.candidates import candidate_tables
from pipelines.scoring.executors import score_parts
from pipelines.scoring.feature_join import Joiner, features_of
from pipelines.scoring.files import keep_best_rows, scoring_report
from pipelines.scoring.manifest import PartitionSource, ScoresManifest, SeenInTraining
from pipelines.scoring.new_items import describe_new_items, known_items
from pipelines.scoring.partitions import (
    SCORES,
    clear_attempt,
    forget_failure,
    is_later,
    is_whole,
    partition_path,
    partition_source,
    parts_path,
    publish_scores,
    record_failure,
    scores_to_replace,
    unfinished_path,
)
from pipelines.scoring.parts import Part, PartsFolder, in_parts
from pipelines.scoring.remote_scores import copy_scores, is_copied, place_behind
from pipelines.workspace.context import RunContext, StageContext

SCORE_COLUMNS = ("request_id", "user_id", "item_id", "timestamp")


class DateScores:
    """The partition of the date that was named, or of the last one of the test window."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    @cached_property
    def day(self) -> date:
        """The date.

        Raises
        ------
        DataError
            When none was named and there is no test window yet.
        """
        run = self._run
        if run.options.get("date"):
            return run.options["date"]
        if "ingest" not in run.artifacts:
            raise DataError("no date was named and no rows are assembled yet; name one with --date, or run `ctr-kd ingest`")
        summary = ClickSummary.read(run.artifacts["ingest"].path)
        return (summary.split.test_until - timedelta(microseconds=1)).date()

    @property
    def place(self) -> Path:
        """Where the scores lie."""
        return partition_path(self._run.workspace, self.day)

    def made_from(self) -> dict[str, str]:
        """The date, and what the store holds for it."""
        run = self._run
        return {
            "date": self.day.isoformat(),
            "made_from": digest_of(partition_source(run.store, run.config, self.day, run.as_of).to_json()),
        }

    def are_up_to_date(self, context: StageContext) -> bool:
        """Whether the partition is there, whole, and was made by this very scoring."""
        manifest = scores_to_replace(self.place)
        made = manifest is not None and manifest.fingerprint == context.fingerprint and is_whole(self.place, manifest)
        return made and is_copied(self._run, self.day)

    def write(self, context: StageContext) -> None:
        """Score the date's candidates into one partition, which appears complete or not at all; a failure is remembered with its reason."""
        day = self.day
        source = partition_source(context.store, context.config, day, context.as_of)
        present = scores_to_replace(self.place)
        if present is not None and is_later(present.made_from or source, source) and is_whole(self.place, present):
            # A clock that jumped back must not take rows away that are already scored.
            context.report(
                f"{self.place} was scored at a later logical time than this one and stays; remove it to score the date as of now"
            )
            write_json(context.output / "summary.json", {"date": day.isoformat(), "kept": present.fingerprint})
            return
        if present is not None and present.fingerprint == context.fingerprint and is_whole(self.place, present) and not context.run.force:
            copy_scores(context.run, day)  # of an earlier run, which did not come so far
            write_json(context.output / "summary.json", present.summary())
            return
        if context.config.score.copy_to is not None:
            require_writable(place_behind(context.config.score.copy_to, day, SCORES))
        try:
            score_date(context, day, source)
            copy_scores(context.run, day)
        except Exception as error:
            clear_attempt(context.workspace, day)
            record_failure(context.workspace, day, explain(error, context.workspace), exit_code(error))
            raise
        forget_failure(context.workspace, day)


def score_date(context: StageContext, day: date, source: PartitionSource) -> None:
    """Write the partition of a date, with ``source`` in its manifest."""
    began = time.monotonic()
    config, settings = context.config, context.config.score
    uri, version, model = load_chosen_model(context.run, context.outside["version"])
    if model.answers.task != config.task:
        raise DataError(f"{uri} {model.answers.says}, and a date has candidates to be clicked; name another --model")
    temporary = unfinished_path(context.workspace, day)
    clear_attempt(context.workspace, day)
    temporary.mkdir(parents=True)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    items = describe_new_items(context.run, model)
    settled = {"fingerprint": context.fingerprint, "rows": settings.batch_rows, "model": model.digest, **known_items(context.store, items)}
    folder = PartsFolder(parts_path(context.workspace, day), settled)
    try:
        with (
            features_of(context.run, midnight) as features,
            context.progress("candidates scored", total=None) as progress,
        ):
            joiner = Joiner.of(model, features, config)
            tables = candidate_tables(context, day, model, joiner)
            parts = in_parts(tables, settings.batch_rows, whole_requests=joiner.compares_candidates())
            parts = (part if part.number in folder.finished else with_features(part, joiner) for part in parts)
            score_parts(
                model=model,
                version=version,
                parts=parts,
                folder=folder,
                config=config,
                name=f"candidates of {day}",
                progress=progress,
                stopwatch=context.run.stopwatch,
                items=items,
            )
        counts = folder.counts()
        folder.join(temporary / SCORES)
    except BaseException:
        folder.leave()
        raise
    context.report(f"{counts.rows:,} candidates of {day} scored")
    rows = keep_best_rows(context.run, temporary / SCORES) or counts.rows
    report = scoring_report(model, counts, began, folder.resumed)
    manifest = ScoresManifest(
        date=day.isoformat(),
        rows=rows,
        model=config.name,
        model_uri=uri,
        model_version=version,
        fingerprint=context.fingerprint,
        made_from=source,
        seen_in_training=seen_in_training(model.split, day, later=settings.candidates != "log" and not source.ahead),
        report=report,
    )
    publish_scores(temporary, partition_path(context.workspace, day), manifest)
    context.run.stopwatch.lap("writing")
    folder.remove()
    write_json(context.output / "summary.json", manifest.summary())
    psi = report.scores.psi
    context.record({"rows": rows, "rows_per_second": report.rows_per_second} | ({} if psi is None else {"psi": psi}))


def seen_in_training(split: SplitTimes | None, day: date, later: bool = False) -> SeenInTraining | None:
    """What a model with these windows has seen of a date's clicks.

    Parameters
    ----------
    split : SplitTimes, optional
    day : date
    later : bool
        The candidates were made at the end of the date, so that their clicks are those of the day after.

    Examples
    --------
    >>> noon = datetime(2024, 1, 3, 12, tzinfo=UTC)
    >>> split = SplitTimes(train_from=None, train_until=noon, validate_until=noon + timedelta(hours=6), test_until=noon + timedelta(days=2))
    >>> seen_in_training(split, date(2024, 1, 2)), seen_in_training(split, date(2024, 1, 3))
    (SeenInTraining(window='training', share=1.0), SeenInTraining(window='training', share=0.75))
    >>> seen_in_training(split, date(2024, 1, 4)), seen_in_training(split, date(2024, 1, 3), later=True)
    (None, None)
    """
    if split is None:
        return None
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) + (timedelta(days=1) if later else timedelta())
    end = start + timedelta(days=1)
    windows = {"training": (split.train_from or start, split.train_until), "validation": (split.train_until, split.validate_until)}
    seen = {name: max(min(until, end) - max(since, start), timedelta()) / timedelta(days=1) for name, (since, until) in windows.items()}
    window = max(seen, key=lambda name: seen[name])
    return SeenInTraining(window=window, share=round(sum(seen.values()), 3)) if seen[window] else None


def with_features(part: Part, joiner: Joiner) -> Part:
    """A part of which only the columns of a partition are kept; what else it has, and what is joined to it, is there to be read."""
    rows = joiner.join(part.rows)
    others = [name for name in rows.column_names if name not in SCORE_COLUMNS]
    return replace(part, rows=rows.select(SCORE_COLUMNS), features=rows.select(others))
