"""JSON: canonical text, digests, and files that are there completely or not at all. Every floor writes and reads JSON with these."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from feature_store.tables.files import open_regular, sync


def canonical_json(value: Any) -> str:
    """Text that is equal for equal values, whatever the order of their keys.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [2, None]})
    '{"a":[2,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """sha256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def spaced_digest_of(value: Any) -> str:
    """sha256 of the text that ``json.dumps`` writes with its own settings and sorted keys; what is no JSON value counts as its text.

    Stores name their log by such digests: with :func:`digest_of` each would look like another one and be built anew.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def json_text(value: Any, sort_keys: bool = False) -> str:
    """What a JSON file holds: one space of indentation, a line feed at the end. NaN is an error, as JSON has none."""
    return json.dumps(value, indent=1, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there completely or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as :func:`write_text` does; NaN is an error, as JSON has none."""
    write_text(path, json_text(value))


def load_json(path: Path) -> Any:
    """The value that a JSON file holds.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        When it is no JSON, or no file: a link, a pipe or a device is not opened.
    """
    with open_regular(path) as stream:
        return json.loads(stream.read().decode("utf-8"))
