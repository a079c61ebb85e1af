"""Scoring many dates: which of a range are asked for, one after the other, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from pipelines.exit_codes import exit_code, explain
from pipelines.scoring.feature_join import StoreFeatures
from pipelines.scoring.manifest import PartitionSource, ScoresManifest
from pipelines.scoring.partitions import (
    clear_attempt,
    differences,
    failed_attempts,
    forget_failure,
    is_later,
    is_whole,
    partition_path,
    partition_source,
    read_partition,
    record_failure,
)
from pipelines.scoring.remote_scores import copy_scores, is_copied
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table

Mode = Literal["missing", "failed", "all"]


@dataclass(frozen=True)
class Outcome:
    """What became of one date.

    Attributes
    ----------
    day : date
    what : str
        ``scored``, ``up to date``, ``missing`` (and not asked for by the mode) or ``failed``.
    rows : int or None
        Of the partition as it is now.
    version : str or None
        Of the model that scored it.
    why : str
        Why it was scored, or why it failed.
    code : int
        Exit code of the failure; 0 otherwise.
    """

    day: date
    what: str
    rows: int | None = None
    version: str | None = None
    why: str = ""
    code: int = 0


def why_stale(run: RunContext, day: date, manifest: ScoresManifest) -> list[str]:
    """Why the partition of a date is not what its log and its settings would give now, whichever model scored it.

    One that was made at a later logical time than this command's is not stale.
    """
    before = manifest.made_from or PartitionSource()
    now = partition_source(run.store, run.config, day, run.as_of, ahead=before.ahead)
    return [] if is_later(before, now) else differences(before, now)


def reason_to_score(run: RunContext, day: date, mode: Mode, failures: Mapping[date, str]) -> str | None:
    """Why a mode asks for a date; None where it does not.

    ``missing``: it has no whole partition, or one whose events or settings are others by now; a champion that moved is no such reason.
    ``failed``: the last attempt failed or was killed. ``all``: it was asked for.
    """
    if mode == "all":
        return "asked for"
    if mode == "failed":
        return f"failed before: {failures[day]}" if day in failures else None
    manifest = read_partition(run.workspace, day)
    if manifest is None:
        return "no finished partition"
    if not is_whole(partition_path(run.workspace, day), manifest):
        return "its files are damaged"
    return "; ".join(why_stale(run, day, manifest)) or None


def backfill(runner: Runner, start: date, end: date, mode: Mode) -> list[Outcome]:
    """Score the dates from ``start`` to ``end``, both inclusive, that a mode asks for; one that fails does not stop the others.

    Parameters
    ----------
    runner : Runner
        Of a pipeline that ends in ``score``, with ``ingest`` brought up to date.
    start, end : date
    mode : "missing", "failed" or "all"

    Returns
    -------
    list of Outcome
        One per date of the range, in order. Failures are recorded in the workspace until their date is scored.
    """
    run = runner.context
    failures = failed_attempts(run.workspace)
    outcomes: dict[date, Outcome] = {}
    reasons: dict[date, str] = {}
    for day in (start + timedelta(days=n) for n in range((end - start).days + 1)):
        try:
            why = reason_to_score(run, day, mode, failures)
            if why is None:
                if mode == "missing" and not is_copied(run, day):  # a copy that broke off, or one that nobody asked for before
                    copy_scores(run, day)
                outcomes[day] = _outcome(run, day)
            else:
                reasons[day] = why
        except Exception as error:
            outcomes[day] = _failed(run, day, error)
    until = _whole_until(run.store, max(reasons)) if reasons else start
    with StoreFeatures(run, datetime.combine(until, time.min, UTC)) as features:
        for day, why in reasons.items():
            run.report(f"{day}: {why}", "backfill")
            # One reading of the log serves all dates, so that the last costs little more than the first.
            run.features = features if day < until and not features.broken else None
            run.options["date"] = day
            try:
                runner.run("score", "score", force=mode == "all")
                clear_attempt(run.workspace, day)
                forget_failure(run.workspace, day)
                outcomes[day] = _outcome(run, day, why)
            except Exception as error:  # whatever went wrong with this date, the next one may be fine
                outcomes[day] = _failed(run, day, error)
        run.features = None
    return [outcomes[day] for day in sorted(outcomes)]


def _whole_until(store: Store, last: date) -> date:
    """The date up to which the log can be read for all dates together: after the last of them, or that of the first damaged partition.

    A damaged partition fails its own date and later ones, which read for themselves, but none before it.
    """
    for file in store.event_files(datetime.combine(last, time.max, UTC)):
        try:
            store.verify_files([file])
        except (DataError, OSError):
            return date.fromisoformat(file.parent.name.removeprefix("date="))
    return last + timedelta(days=1)


def _failed(run: RunContext, day: date, error: Exception) -> Outcome:
    reason, code = explain(error, run.workspace), exit_code(error)
    record_failure(run.workspace, day, reason, code)
    run.report(f"{day} failed: {reason}", "backfill", code=code)
    return Outcome(day, "failed", why=reason, code=code)


def _outcome(run: RunContext, day: date, why: str = "") -> Outcome:
    manifest = read_partition(run.workspace, day)
    if manifest is None:  # the mode did not ask for it
        return Outcome(day, "missing")
    # What was scored at a later logical time stays even when it was asked for.
    mine = why and manifest.fingerprint == run.artifacts["score"].path.name
    return Outcome(day, "scored" if mine else "up to date", manifest.rows, manifest.model_version, why)


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """The dates as text, a line each.

    Examples
    --------
    >>> print(outcome_table([Outcome(date(2024, 1, 2), "scored", 1500, "3", "no finished partition")]))
    date        what    rows   version  why
    2024-01-02  scored  1,500  3        no finished partition
    """
    rows = [("date", "what", "rows", "version", "why")]
    rows += [(f"{one.day}", one.what, "-" if one.rows is None else f"{one.rows:,}", one.version or "-", one.why) for one in outcomes]
    return text_table(rows)
