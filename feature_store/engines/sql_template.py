"""The text of the feature SQL, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template

import numpy as np
import pyarrow as pa

BATCH = 122_880  # rows per Arrow batch that an engine streams: DuckDB's row group


@cache
def _template(name: str) -> Template:
    return Template((Path(__file__).parent.parent / "sql" / name).read_text(encoding="utf-8"))


def render_sql(query: str, parameters: Mapping[str, object]) -> str:
    """The text of ``sql/NAME.sql``, or of a literal query, with its ``${parameters}`` filled in."""
    template = _template(query) if query.endswith(".sql") else Template(query)
    return template.substitute(parameters)


def quoted(name: str) -> str:
    """A column name from outside as an SQL identifier.

    Examples
    --------
    >>> print(quoted('an "odd" name'))
    "an ""odd"" name"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """A text from outside, such as a path, as an SQL literal.

    Examples
    --------
    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + str(text).replace("'", "''") + "'"


def in_order(table: pa.Table, by: Sequence[str]) -> pa.Table:
    """A table sorted by integer columns without nulls.

    Examples
    --------
    >>> in_order(pa.table({"a": [2, 1], "b": [3, 4]}), ["a"])["b"].to_pylist()
    [4, 3]
    """
    if not by or table.num_rows == 0:
        return table
    keys = [table[name].to_numpy() for name in reversed(by)]
    order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)
    return table.take(pa.array(order))
