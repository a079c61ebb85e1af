"""The code that travels with an exported student: files of this release, which is how a folder from elsewhere may be trusted to run."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

from feature_store.tables.files import sha256_of
from feature_store.tables.folders import regular_files

_ROOT = Path(__file__).resolve().parents[2]
_CLICK_SCORER = ("click_files", "click_values", "click_histories", "click_scorer")  # each imports of those before it
_HEAD = """\
# Raw ids in, probabilities out: SCORER(folder).score(table), where folder is that of an exported student of clicks.
# These are files of ctr_kd, one after the other in one file, which needs no other of them.

from __future__ import annotations

"""


def release_code() -> list[Path]:
    """Files that an export copies as they are: what scores texts, tokenizers, and what a raw value means."""
    casting = _ROOT / "feature_store" / "tables" / "casting.py"
    return [_ROOT / "ctr_kd" / "export" / "text_scorer.py", casting, *_ROOT.glob("feature_store/text/tokenizers/*.py")]


@cache
def click_scorer_code() -> bytes:
    """The scorer of clicks and what it imports of its folder as one file.

    It is loaded by its place, beside scorers of other releases in one process, where an import by name would find the files of another.
    """
    folder = _ROOT / "ctr_kd" / "export"
    return (_HEAD + "\n\n".join(_without_own_imports(folder / f"{name}.py") for name in _CLICK_SCORER)).encode()


def _without_own_imports(file: Path) -> str:
    """A file of this folder, without what it imports of others, and of the future of Python, which a file does once."""
    text = file.read_text(encoding="utf-8")
    lines = text.split("\n")
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("__future__", "ctr_kd"):
            lines[node.lineno - 1 : node.end_lineno] = [""] * len(lines[node.lineno - 1 : node.end_lineno])
    return "\n".join(lines)


def foreign_code(folder: Path, more: Collection[Path] = ()) -> str | None:
    """Name of the first file of Python below a folder that is not of this release, nor equal to one of ``more``; None if there is none.

    Raises
    ------
    UnsafeFile
        When something below the folder is no file: a link or a pipe.
    """
    known = {sha256_of(file) for file in (*release_code(), *more)} | {hashlib.sha256(click_scorer_code()).hexdigest()}
    found = (name for name in sorted(regular_files(folder)) if name.endswith((".py", ".pyc")))
    return next((name for name in found if sha256_of(folder / name) not in known), None)
