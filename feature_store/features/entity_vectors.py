"""Vectors of the items and users of an assembly, in the order of its codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.tables.casting import as_array
from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.vectors import TITLE_VECTOR, widths_of


def write_vectors(output: Path, stored: Path | None, described: Path, names: Sequence[str]) -> dict[str, int]:
    """Write vectors of the store in the order of a file of ids.

    Parameters
    ----------
    output : Path
        A file with a column for each name, as :data:`feature_store.tables.vectors.STORED`, whose rows are those of ``described``; not
        written without names.
    stored : Path or None
        ``items.parquet`` or ``users.parquet`` of the store, whose first column is the id.
    described : Path
        Whose second column is the id.
    names : sequence of str

    Returns
    -------
    dict of str to int
        Width of each column.

    Raises
    ------
    DataError
        When a column holds no vector at all.
    """
    if not names or stored is None:
        return {}
    key = pq.read_schema(stored).names[0]
    found = read_parquet(stored, columns=[key, *names])
    ids = as_array(read_parquet(described, columns=[key])[key]).cast(pa.string())
    place = pc.index_in(ids, value_set=as_array(found[key]).cast(pa.string()))
    table = pa.table({name: as_array(found[name]).take(place) for name in names})
    widths = {name: int(widths_of(table[name]).max(initial=0)) for name in names}
    for name, width in widths.items():
        if not width:
            where = "no item has a title; remove its encoder" if name == TITLE_VECTOR else "fill it, or remove it from `vector`"
            raise DataError(f"column {name} of the {key.removesuffix('_id')}s holds no vector: {where}")
    pq.write_table(table, output, compression="none", store_schema=False)
    return widths
