"""Parquet files of one schema become one file, row group by row group, without decoding a value.

Encoding a table costs about as much as scoring it, and one file is written by one process. So each process encodes its own part, and what
is left to do here is to copy bytes and to write one footer: the row groups of all parts, with the offsets that they have now.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_footer import (
    GROUPS,
    I64,
    LIST,
    MAGIC,
    ROWS,
    SCHEMA,
    STRUCT,
    Struct,
    copy_bytes,
    encoded,
    list_header,
    move_group,
    read_footer,
    write_footer,
)


def concatenate(sources: Sequence[Path], target: Path) -> int:
    """Write the rows of Parquet files one after the other.

    Parameters
    ----------
    sources : sequence of Path
        At least one; all of one schema. Further facts of the footer (metadata, created by) are those of the first.
    target : Path
        Written from its beginning, and left half written by an error.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    DataError
        When a file is no Parquet, or has another schema than the first.
    """
    first: Struct | None = None
    groups: list[bytes] = []
    rows = 0
    with open(target, "wb") as out:
        out.write(MAGIC)
        for path in sources:
            footer, end = read_footer(path)
            if first is None:
                first = footer
            if footer[SCHEMA] != first[SCHEMA]:
                raise DataError(f"{path} has other columns than {sources[0]}; only files of one schema become one")
            shift = out.tell() - len(MAGIC)
            for group in footer[GROUPS][1][1]:
                move_group(group, shift)
                groups.append(encoded(group))
            rows += footer[ROWS][1]
            with open(path, "rb") as file:
                file.seek(len(MAGIC))
                copy_bytes(file, out, end - len(MAGIC))
        if first is None:
            raise DataError(f"{target}: there is no file to make it of")
        write_footer(first | {ROWS: (I64, rows), GROUPS: (LIST, list_header(STRUCT, len(groups)) + b"".join(groups))}, out)
    return rows
