"""Names that people give to folders and columns, and that some engine or format takes for something else."""

from __future__ import annotations

from pathlib import Path

ODD_FOLDERS = ("clicked=1", "user_id=7", "label=1", "device=tv", "date=2020-01-01", 'it\'s "so"', "[x] *?", "#%20 $x {y}", "~", "köp ~→")
ODD_COLUMNS = ('an "odd" one', "it's", "$x ${y}", "{z}", "a.b.c", "two words", "date", "type", "küche", "a,b;c", "<b>", "50%", "_x")


def odd_folder(parent: Path) -> Path:
    """A folder below another whose path holds all of :data:`ODD_FOLDERS`; it exists."""
    folder = parent.joinpath(*ODD_FOLDERS)
    folder.mkdir(parents=True)
    # what the path would mean as a pattern exists too
    for sibling in ("x a", "x b*", "[x] ab"):
        folder.parents[len(ODD_FOLDERS) - ODD_FOLDERS.index("[x] *?") - 1].joinpath(sibling).mkdir()
    return folder
