"""Tables on a terminal, and the same as plain text where nobody watches: as wide as they need, a line per row, for `grep`."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feature_store.tables.plain_text import plain

_BETWEEN = 2  # spaces


def text_table(rows: Sequence[Sequence[str]], right: Collection[int] = (), indent: int = 0) -> str:
    """Rows under one another.

    Parameters
    ----------
    rows : sequence of sequence of str
        The first holds the titles of the columns.
    right : collection of int
        Columns that end on the right, as numbers do.
    indent : int
        Spaces before each line.

    Returns
    -------
    str
        On a terminal folded to its width; elsewhere a line per row.

    Examples
    --------
    >>> print(text_table([("a", "bb"), ("ccc", "[1, 2]"), ("d", "")]))
    a    bb
    ccc  [1, 2]
    d
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    watched = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style="bold")
    for place, title in enumerate(rows[0]):
        table.add_column(Text(title), justify="right" if place in right else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))  # as text, for what comes from outside is no markup
    widest = sum(max(map(cell_len, cells)) + _BETWEEN for cells in zip(*rows, strict=True))
    text = io.StringIO()
    console = Console(file=text, force_terminal=watched, highlight=False)
    console.width = console.width - indent if watched else widest
    console.print(table)
    return "\n".join((" " * indent + line).rstrip() for line in text.getvalue().splitlines())
