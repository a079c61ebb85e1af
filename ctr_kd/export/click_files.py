"""What lies in the folder of an exported student of clicks: its signature, its tables, and the code that says what raw values mean."""

from __future__ import annotations

import importlib.util
from datetime import datetime
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import NotRequired, Protocol, TypedDict, cast

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq


class StudentSignature(TypedDict):
    """What is read of ``signature.json``."""

    tokens: dict[str, int]  # of an item: id, attributes and vectors, then the gap; size of each vocabulary
    categorical: dict[str, int]
    dense: dict[str, list[float]]  # edges of each number
    special_tokens: list[str]
    max_length: int
    gap_buckets: int
    labels: NotRequired[list[str]]
    vectors: NotRequired[dict[str, int]]
    has_types: NotRequired[bool]
    negative_sampling_rate: NotRequired[float | None]


class Casting(Protocol):
    """What is called of ``casting.py``: functions of columns, with a mask of the values that do not fit; ``to_times`` has one of nulls."""

    EARLIEST: datetime

    def id_values(self, column: pa.Array, /) -> tuple[pa.Array, np.ndarray]: ...

    def to_categories(self, column: pa.Array, /) -> tuple[pa.Array, np.ndarray]: ...

    def to_text(self, column: pa.Array, /) -> tuple[pa.Array, np.ndarray]: ...

    def number_values(self, column: pa.Array, /) -> tuple[np.ndarray, np.ndarray]: ...

    def to_times(self, column: pa.Array, /) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class _Source(SourceFileLoader):
    """Runs a file as it is: bytecode beside it, which no digest covers, is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_casting(root: Path) -> Casting:
    """What a raw value means, from its own file beside the graph: the one by which the log was read."""
    loader = _Source("student_casting", str(root / "casting.py"))
    module = importlib.util.module_from_spec(ModuleSpec(loader.name, loader, origin=loader.path))
    loader.exec_module(module)
    return cast(Casting, module)


def load_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A graph, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def read_table(path: Path) -> pa.Table:
    """A file as it is: pyarrow's own ``read_table`` would take a folder ``key=value`` above it for a column."""
    with pq.ParquetFile(path) as file:
        return file.read()


def column_of(table: pa.Table, name: str) -> pa.Array:
    """One column as one array."""
    column = table[name]
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    )


def read_sums(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """By kind and name, the tables of a student behind its look-ups, each (rows, width); none without the file."""
    if not path.exists():
        return {}
    table = read_table(path)
    found: dict[str, dict[str, np.ndarray]] = {"token": {}}
    kind, name = (table[column].to_numpy(zero_copy_only=False) for column in ("kind", "name"))
    begins = np.flatnonzero(np.append(True, (kind[1:] != kind[:-1]) | (name[1:] != name[:-1])))
    for begin, end in zip(begins, [*begins[1:], len(kind)], strict=True):
        rows = column_of(table.slice(begin, end - begin), "vector")
        found.setdefault(kind[begin], {})[name[begin]] = rows.flatten().to_numpy().reshape(len(rows), -1)
    return found


def read_projections(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By vector: what stands for none (width,), and the weights (dimensions, width) that bring a vector to the width of the student."""
    table = read_table(path)
    weights = np.array(table["weights"].to_pylist(), object)
    names = table["vector"].to_numpy(zero_copy_only=False)
    found = {}
    for name in dict.fromkeys(names):
        rows = np.array([np.asarray(row, np.float32) for row in weights[names == name]])
        found[name] = rows[0], rows[1:]
    return found
