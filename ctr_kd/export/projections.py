"""``projections.parquet`` of an exported student: what brings given vectors to its width, beside a graph that takes them projected.

The scorer inside a student reads the file by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.models.layers import GivenVectors
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.vectors import STORED

FILE = "projections.parquet"


def write_projections(given: Sequence[GivenVectors], folder: Path) -> None:
    """For each vector a row for what has none, then a row of weights for each of its dimensions."""
    rows: list[tuple[str, list[float]]] = []
    for module in given:
        weight, none = module.weights()
        rows += [(module.name, row) for row in [none.tolist(), *weight.tolist()]]
    table = {"vector": pa.array([name for name, _ in rows]), "weights": pa.array([row for _, row in rows], STORED)}
    pq.write_table(pa.table(table), folder / FILE)


def projected(folder: Path, name: str, vectors: np.ndarray) -> np.ndarray:
    """Vectors as the graph of a folder takes them.

    Parameters
    ----------
    folder : Path
    name : str
        Of the feature.
    vectors : float32 array (indices, dimensions)
        As :class:`ctr_kd.data.samples.Signature` has them.

    Returns
    -------
    float32 array (indices, width)
    """
    rows = read_parquet(folder / FILE, filters=[("vector", "=", name)])["weights"].to_pylist()
    none, weight = np.array(rows[0], np.float32), np.array(rows[1:], np.float32)
    table: np.ndarray = vectors @ weight
    table[UNKNOWN] = none
    return table
