"""Scored partitions: what each was made from, why one no longer holds, and the attempts that failed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from feature_store.store.store import Store
from feature_store.tables.files import UnsafeFile, sha256_of
from feature_store.tables.folders import regular_file
from feature_store.tables.json_files import digest_of, load_json, write_json
from feature_store.tables.seal import sealed
from pipelines.config.run import RunConfig, with_new_keys
from pipelines.scoring.manifest import FailedAttempt, PartitionSource, ScoresManifest
from pipelines.workspace.artifacts import ArtifactError, publish_directory, read_manifest
from pipelines.workspace.manifest import MANIFEST, FileDigest

SCORES, REPORT = "scores.parquet", "scoring.json"
# Besides the model: what decides which rows a date has, and what the store joins to them.
SETTINGS = ("score.candidates", "score.per_user", "score.top", "score.window", "score.users", "candidates", "history", "statistics")


def partition_path(workspace: Path, day: date) -> Path:
    """Where the scores of a date lie."""
    return workspace / "scores" / f"date={day.isoformat()}"


def unfinished_path(workspace: Path, day: date) -> Path:
    """Where an attempt to score a date works: it exists only while one runs, or after one was killed."""
    final = partition_path(workspace, day)
    return final.with_name(f".{final.name}.tmp")


def parts_path(workspace: Path, day: date) -> Path:
    """Where the finished parts of an attempt lie, for the next one to go on from."""
    final = partition_path(workspace, day)
    return final.with_name(f".{final.name}.parts")


def scored_dates(workspace: Path) -> list[date]:
    """Dates that have a finished partition, oldest first."""
    return _dates((workspace / "scores").glob(f"date=????-??-??/{MANIFEST}"), lambda path: path.parent.name.removeprefix("date="))


def _dates(paths: Iterator[Path], name: Any) -> list[date]:
    found = []
    for path in paths:
        try:
            found.append(date.fromisoformat(name(path)))
        except ValueError:
            raise ArtifactError(f"{path} names no date; remove it") from None
    return sorted(found)


def is_ahead(store: Store, config: RunConfig, day: date, as_of: datetime | None) -> bool:
    """Whether a date would be scored before it has an event."""
    if config.score.candidates == "log":
        return False
    if day.isoformat() not in store.dates():
        return True
    newest = store.newest_event(as_of)  # its events may all be hidden
    return newest is None or newest < datetime(day.year, day.month, day.day, tzinfo=UTC)


def partition_source(store: Store, config: RunConfig, day: date, as_of: datetime | None, ahead: bool | None = None) -> PartitionSource:
    """What the scores of a date would be made from now; ``ahead`` as if it had no event yet, by default where it has none."""
    midnight = datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, tzinfo=UTC)
    if ahead is None:
        ahead = is_ahead(store, config, day, as_of)
    if ahead:
        midnight -= timedelta(days=1)
    known = store.known_until(midnight)
    hides = as_of is not None and known is not None and as_of <= known
    contract = store.log_contract
    items = {} if contract.item_facts is None else {"items": store.described_digest("items", midnight)}
    return PartitionSource(
        events=store.partition_digests(midnight),
        users=store.described_digest("users", midnight),
        **items,
        contract=digest_of(store.contract.to_json()),
        settings=config.section(SETTINGS),
        as_of=as_of.isoformat() if hides and as_of is not None else None,
        ahead=ahead,
    )


def differences(before: PartitionSource, now: PartitionSource) -> list[str]:
    """Why a partition that was made from the one is not what the other would give, in words; nothing where both are equal.

    Examples
    --------
    >>> before = PartitionSource(events={"2024-01-01": "a", "2024-01-02": "b"}, settings={"history": 1})
    >>> differences(before, PartitionSource(events={"2024-01-01": "a", "2024-01-02": "c"}, settings={"history": 2}))
    ['the events of 2024-01-02 were corrected', 'history has another value']
    >>> before, now = {"history": {"max_length": 5}}, {"history": {"max_length": 5, "min_length": 0}}  # an earlier release knew fewer keys
    >>> differences(PartitionSource(settings=before), PartitionSource(settings=now))
    []
    """
    old, new = before.events, now.events
    reasons = []
    for days, what in (
        (sorted(new.keys() - old.keys()), "arrived since"),
        (sorted(old.keys() - new.keys()), "are gone"),
        (sorted(day for day in old.keys() & new.keys() if old[day] != new[day]), "were corrected"),
    ):
        if days:
            reasons.append(f"the events of {days[0]}{f' and {len(days) - 1} more dates' if len(days) > 1 else ''} {what}")
    reasons += ["the users changed"] if before.users != now.users else []
    reasons += ["the items changed"] if before.items != now.items else []
    reasons += ["the columns of the log changed"] if before.contract != now.contract else []
    reasons += [f"{key} has another value" for key, value in now.settings.items() if with_new_keys(key, before.settings.get(key)) != value]
    if before.as_of != now.as_of:
        reasons.append(f"it was scored {_as_of(before.as_of)}, not {_as_of(now.as_of)}")
    return reasons


def _as_of(time: str | None) -> str:
    return "with all events" if time is None else f"as of {time}"


def is_later(present: PartitionSource, now: PartitionSource) -> bool:
    """Whether a partition was made at a later logical time than one would be now, so that it may hold rows that this one would lack.

    Examples
    --------
    >>> early, late = PartitionSource(as_of="2024-01-03T10:00:00+00:00"), PartitionSource(as_of="2024-01-03T14:00:00+00:00")
    >>> is_later(late, early), is_later(early, late), is_later(PartitionSource(), early), is_later(early, PartitionSource())
    (True, False, True, False)
    >>> ahead = PartitionSource(ahead=True)  # before the date had an event
    >>> is_later(ahead, early), is_later(early, ahead)
    (False, True)
    """
    if present.ahead != now.ahead:
        return now.ahead
    if now.as_of is None:
        return False
    return present.as_of is None or datetime.fromisoformat(present.as_of) > datetime.fromisoformat(now.as_of)


def read_partition(workspace: Path, day: date) -> ScoresManifest | None:
    """Manifest of a date's partition; None where there is none, or one of an earlier release, which is made again.

    Raises
    ------
    ArtifactError
        When it is damaged.
    """
    manifest = read_scores(partition_path(workspace, day))
    return manifest if manifest is not None and manifest.made_from is not None else None


def read_scores(path: Path) -> ScoresManifest | None:
    """Manifest of a folder of scores, as :func:`read_partition` reads that of a date."""
    return read_manifest(path, ScoresManifest)


def scores_to_replace(path: Path) -> ScoresManifest | None:
    """Manifest of a folder of scores for whoever makes it again where it does not hold what is wanted; None also where it is damaged."""
    try:
        return read_scores(path)
    except ArtifactError:
        return None


def is_whole(path: Path, manifest: ScoresManifest) -> bool:
    """Whether the files of a folder of scores have the bytes that were written."""
    try:
        return all(sha256_of(regular_file(path, name)) == file.sha256 for name, file in manifest.files.items())
    except (FileNotFoundError, UnsafeFile):
        return False


def publish_scores(temporary: Path, final: Path, manifest: ScoresManifest) -> None:
    """Describe the scores in a folder, and put it in its place complete or not at all.

    Parameters
    ----------
    temporary, final : Path
        Folder that holds the scores, and where it goes.
    manifest : ScoresManifest
        Without the digests of its files.
    """
    write_json(temporary / REPORT, manifest.summary())
    files = {name: FileDigest(sha256=sha256_of(temporary / name)) for name in (SCORES, REPORT)}
    write_json(temporary / MANIFEST, sealed(manifest.model_copy(update={"files": files}).to_json()))
    publish_directory(temporary, final)


# --- attempts that did not end in a partition ------------------------------------------------------------------------


def _failures(workspace: Path) -> Path:
    return workspace / "artifacts" / "score" / "failed"


def record_failure(workspace: Path, day: date, reason: str, code: int) -> None:
    """Remember that a date could not be scored, until it is; a finished partition is left alone."""
    folder = _failures(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    failure = FailedAttempt(date=day.isoformat(), reason=reason, code=code, when=when)
    write_json(folder / f"{day.isoformat()}.json", failure.to_json())


def forget_failure(workspace: Path, day: date) -> None:
    """The date is scored now."""
    (_failures(workspace) / f"{day.isoformat()}.json").unlink(missing_ok=True)


def failed_attempts(workspace: Path) -> dict[date, str]:
    """Why the last attempt at each date did not end in a partition, by date: it failed, or it was killed."""
    unfinished = _dates(
        (workspace / "scores").glob(".date=????-??-??.tmp"), lambda path: path.name.removeprefix(".date=").removesuffix(".tmp")
    )
    found = dict.fromkeys(unfinished, "it was stopped before its end")
    for path in _failures(workspace).glob("????-??-??.json"):
        try:
            reason = FailedAttempt.from_json(load_json(path)).reason
        except ValueError as error:
            reason = f"{path} is damaged: {error}"
        found[date.fromisoformat(path.stem)] = reason
    return dict(sorted(found.items()))


def clear_attempt(workspace: Path, day: date) -> None:
    """Remove what an attempt left behind."""
    shutil.rmtree(unfinished_path(workspace, day), ignore_errors=True)
