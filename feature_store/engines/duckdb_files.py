"""How DuckDB is told to read Parquet files: exactly these, as they are.

Left alone it takes a path for a pattern, and a folder above the file whose name is ``key=value`` for a column, which it prefers to the
file's own. And it does not tell upper from lower case, so of two columns that differ in that alone a name means the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from feature_store.engines.sql_template import literal, quoted
from feature_store.tables.contracts import StorageError

_PATTERN = "*?["


def parquet_source(files: Sequence[Path], *, united: bool = False) -> str:
    """A table of exactly these files, whose columns differ in more than case; ``united`` by their names, else all have the same."""
    unite = ", union_by_name = true" if united else ""
    return f"read_parquet([{', '.join(map(_path, files))}], hive_partitioning = false{unite})"


def parquet_rows(file: Path, columns: Sequence[str]) -> str:
    """A query for some columns of a file whose other columns may have any name, and the number of each row in it as ``row``."""
    known = pq.read_schema(file.absolute()).names
    places = ", ".join(quoted(name) if name in columns else f"other_{place}" for place, name in enumerate(known))
    chosen = ", ".join(map(quoted, columns))
    return f"select file_row_number as row, {chosen} from read_parquet({_path(file)}, hive_partitioning = false) as file({places})"


def _path(path: Path) -> str:
    """A path as SQL that DuckDB takes for no pattern, no home folder and no URL.

    Raises
    ------
    StorageError
        When it cannot be said to DuckDB.
    """
    text = str(path.absolute())
    if any(sign in text for sign in _PATTERN):
        if "\\" in text:
            raise StorageError(f"{path}: a path with a backslash and one of {' '.join(_PATTERN)} cannot be read here; rename the folder")
        text = "".join(f"[{sign}]" if sign in _PATTERN else sign for sign in text)
    return literal(text)
