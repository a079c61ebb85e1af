"""Logits of rows on disk, by row id, with the model that gave them; and the probabilities that they stand for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.data.disk_arrays import joined, let_go, pieces_of
from ctr_kd.metrics import of_full_stream
from feature_store.tables.contracts import DataError
from feature_store.tables.parquet_files import read_parquet

SPLITS = ("train", "validation", "test")
TAUGHT = ("train", "transfer")  # what a student learns from
CERTAIN = 1e-6  # no row is more certain than that
_SUREST = 30.0  # of a logit: what is beyond would overflow where a loss squares it, or half precision stores it


def write_predictions(path: Path, row_id: np.ndarray, logits: np.ndarray, model: str, labels: Sequence[str] = ()) -> None:
    """Store logits (rows, outputs) by row id, with the fingerprint of the model that gave them, and the names of further labels, if any.

    In the precision that they have; memory has a piece of those that lie on disk.
    """
    said = {"model": model} | ({"labels": json.dumps(list(labels))} if labels else {})

    def table(here: slice) -> pa.Table:
        columns = {"row_id": pa.array(row_id[here]), **{f"logit_{i}": pa.array(logits[here, i]) for i in range(logits.shape[1])}}
        return pa.table(columns).replace_schema_metadata(said)

    with pq.ParquetWriter(path, table(slice(0)).schema) as writer:
        for here in pieces_of(len(row_id)):
            writer.write_table(table(here))
            let_go([row_id, logits])


def precision_of(split: str) -> type[np.floating]:
    """In which logits are stored: half where a student learns from them, single where they are measured and ties would count.

    Half precision has eleven binary digits: a logit of 4 is kept to .002, far below what two seeds of a teacher differ by.

    Examples
    --------
    >>> precision_of("train").__name__, precision_of("test").__name__
    ('float16', 'float32')
    """
    return np.float16 if split in TAUGHT else np.float32


def in_precision(logits: np.ndarray, split: str, folder: Path) -> np.ndarray:
    """Logits (rows, outputs) of a split in the :func:`precision_of` it; of many rows on the disk of the folder."""
    return joined((logits[here].astype(precision_of(split)) for here in pieces_of(len(logits))), len(logits), folder)


def logits_of(score: np.ndarray, scale: Literal["probability", "logit"]) -> np.ndarray:
    """Click logits (rows,) of what a model says of rows, on its scale; probabilities are kept 1e-6 away from 0 and 1.

    Examples
    --------
    >>> logits_of(np.array([0.5, np.nan, 1.0]), "probability").round(2).tolist()
    [0.0, nan, 13.82]
    """
    score = score.astype(np.float64)
    if scale == "logit":
        return score.clip(-_SUREST, _SUREST)
    kept = score.clip(CERTAIN, 1 - CERTAIN)
    return np.log(kept / (1 - kept))


def read_predictions(path: Path, model: str, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read what :func:`write_predictions` stored: row ids (rows,) and logits (rows, outputs).

    Parameters
    ----------
    path : Path
    model : str
        Its fingerprint.
    among : int64 array, optional
        Row ids, one at least, from whose smallest to whose largest is read; None: all.

    Raises
    ------
    DataError
        When the logits come from another model: stale logits are refused.
    """
    found = (pq.read_schema(path).metadata or {}).get(b"model", b"").decode()
    if found != model:
        raise DataError(f"{path} holds logits of model {found or '(unknown)'}, not of {model}: run with --from finetune --force")
    table = read_parquet(path, filters=None if among is None else [("row_id", ">=", among.min()), ("row_id", "<=", among.max())])
    names = [name for name in table.column_names if name.startswith("logit_")]
    return table["row_id"].to_numpy(), np.stack([table[name].to_numpy() for name in names], axis=1)


def stored_probabilities(file: Path, negative_sampling_rate: float | None = None, label: str | None = None) -> np.ndarray:
    """Probabilities that a stage stored in its artifact as logits, in the order of the row ids: of clicks (rows,), or (rows, classes).

    Models learn from the rows that a log kept; with the rate at which it kept those without a click, probabilities are of the full stream.
    Of several labels those of one: of the click, or of a further ``label``.
    """
    row_id, logit = read_predictions(file, file.parent.name)
    labels = json.loads((pq.read_schema(file).metadata or {}).get(b"labels", b"[]"))
    if labels:
        place = 0 if label is None else 1 + labels.index(label)
        logit = logit[:, place : place + 1]
    return of_full_stream(probabilities(logit[np.argsort(row_id)]), negative_sampling_rate)


def probabilities(logit: np.ndarray) -> np.ndarray:
    """Probabilities of logits (rows, outputs), in double precision: of clicks (rows,) for one output, else of classes.

    Examples
    --------
    >>> probabilities(np.array([[0.0]])).tolist(), probabilities(np.array([[0.0, 0.0]])).tolist()
    ([0.5], [[0.5, 0.5]])
    """
    logit = logit.astype(np.float64)
    if logit.shape[1] == 1:
        return 1.0 / (1.0 + np.exp(-logit[:, 0]))
    odds = np.exp(logit - logit.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
