"""The code that travels with an exported student: files of this release, which is how a folder from elsewhere may be trusted to run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from feature_store.tables.files import sha256_of
from feature_store.tables.folders import regular_files

_ROOT = Path(__file__).resolve().parents[2]


def release_code() -> list[Path]:
    """Files that an export copies: scorers, tokenizers, and what a raw value means."""
    scorers = _ROOT / "ctr_kd" / "export"
    casting = _ROOT / "feature_store" / "tables" / "casting.py"
    return [scorers / "click_scorer.py", scorers / "text_scorer.py", casting, *_ROOT.glob("feature_store/text/tokenizers/*.py")]


def foreign_code(folder: Path, more: Collection[Path] = ()) -> str | None:
    """Name of the first file of Python below a folder that is not of this release, nor equal to one of ``more``; None if there is none.

    Raises
    ------
    UnsafeFile
        When something below the folder is no file: a link or a pipe.
    """
    known = {sha256_of(file) for file in (*release_code(), *more)}
    found = (name for name in sorted(regular_files(folder)) if name.endswith((".py", ".pyc")))
    return next((name for name in found if sha256_of(folder / name) not in known), None)
