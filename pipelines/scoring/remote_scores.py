"""A copy of each scored date behind a URL, for whoever reads scores from an object store and not from the workspace."""

from __future__ import annotations

from datetime import date
from typing import Any

from feature_store.readers.remote import write_file
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import load_json, write_json
from pipelines.scoring.partitions import REPORT, SCORES, partition_path
from pipelines.workspace.context import RunContext
from pipelines.workspace.manifest import MANIFEST

INDEX = ".copied.json"  # in the folder of scores: of each date, where it was copied to and which scores these were


def place_behind(url: str, day: date, name: str) -> str:
    """URL of a file of a date.

    Examples
    --------
    >>> place_behind("s3://bucket/scores/?region=eu-west-1", date(2024, 1, 31), "scores.parquet")
    's3://bucket/scores/date=2024-01-31/scores.parquet?region=eu-west-1'
    """
    path, question, settings = url.partition("?")
    return f"{path.rstrip('/')}/date={day.isoformat()}/{name}{question}{settings}"


def is_copied(run: RunContext, day: date) -> bool:
    """Whether the scores of a date, as they are, lie behind ``score.copy_to`` too, where there is one."""
    url = run.config.score.copy_to
    return url is None or _index(run).get(day.isoformat()) == _state(run, day, url)


def copy_scores(run: RunContext, day: date) -> None:
    """Copy the scores of a date, its manifest last: a date without one is not whole.

    Raises
    ------
    DataError
        When a file cannot be written. What was written stays, and the next run goes on.
    """
    url = run.config.score.copy_to
    if url is None:
        return
    for name in (SCORES, REPORT, MANIFEST):
        write_file(partition_path(run.workspace, day) / name, place_behind(url, day, name))
    write_json(run.workspace / "scores" / INDEX, _index(run) | {day.isoformat(): _state(run, day, url)})
    run.report(f"scores of {day} copied below {url}", "score")


def _state(run: RunContext, day: date, url: str) -> list[str]:
    return [url, sha256_of(partition_path(run.workspace, day) / MANIFEST)]


def _index(run: RunContext) -> dict[str, Any]:
    try:
        found = load_json(run.workspace / "scores" / INDEX)
    except (FileNotFoundError, ValueError):  # damaged: all is copied again
        return {}
    return found if isinstance(found, dict) else {}
