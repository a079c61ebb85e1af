"""Raw texts in, classes out: the thin wrapper around ``student.onnx``.

This file travels inside the exported student, with the file of its tokenizer beside it. It needs numpy, pandas, pyarrow, onnxruntime
and what the tokenizer needs, and no other file of ours.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa

PAD = 0  # of every vocabulary, as the project has it; this file imports nothing of it
CHUNK = 16_384  # rows tokenized at a time
BATCH = 512  # rows of about one length whose vectors fit the cache


class TextRowsError(ValueError):
    """Rows of texts that cannot be scored; the message names the column."""


class TextScorer:
    """Score raw texts with an exported student.

    Parameters
    ----------
    directory : path
        Holds ``student.onnx``, ``signature.json``, ``tokenizer.json``, ``vocabulary.json`` and ``tokenizer.py``.
    threads : int
        Threads of the runtime.

    Attributes
    ----------
    lap : callable
        Called where a part of the work ends, with its name (mapping, head) and what it took and gave. Whoever wants to know what parts
        cost sets it.
    """

    def __init__(self, directory: str | os.PathLike[str], threads: int = 1) -> None:
        self.lap: Callable[..., None] = _untold
        root = Path(directory)
        self.signature: dict[str, Any] = json.loads((root / "signature.json").read_text(encoding="utf-8"))
        self.classes: list[str] = self.signature["classes"]
        self.columns: list[str] = self.signature["class_columns"]  # names of their probabilities in an answer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(root / "student.onnx"), options, providers=["CPUExecutionProvider"])
        self.fed = {argument.name for argument in self.session.get_inputs()}
        self.tokenizer = _load_tokenizer(root)

    def score(self, table: pa.Table) -> np.ndarray:
        """Class probabilities of rows.

        Parameters
        ----------
        table : pyarrow Table
            ``text`` and optionally ``text_b``; a null counts as an empty text, and an empty one is scored.

        Returns
        -------
        float64 array (rows, classes)
            The same for a row whatever the rows around it.

        Raises
        ------
        TextRowsError
            When ``text`` is missing or a column does not hold text.
        """
        for name in ("text", "text_b"):
            if name in table.column_names:
                _check_text(table.schema.field(name).type, table[name], name)
        if "text" not in table.column_names:
            raise TextRowsError("column text is missing: a row needs text, and text_b where the model compares two")
        scores = [self._score_chunk(table.slice(begin, CHUNK)) for begin in range(0, table.num_rows, CHUNK)]
        return np.concatenate(scores) if scores else np.zeros((0, len(self.classes)))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """``label`` (the likeliest class), ``score`` (its probability) and a column per class, with the index of the frame."""
        columns = {name: _text_column(frame[name], name) for name in ("text", "text_b") if name in frame.columns}
        probability = self.score(pa.table(columns))
        best = probability.argmax(axis=1)
        answer = {"label": np.array(self.classes, object)[best], "score": probability[np.arange(len(best)), best]}
        return pd.DataFrame(answer | dict(zip(self.columns, probability.T, strict=True)), index=frame.index)

    def _score_chunk(self, table: pa.Table) -> np.ndarray:
        scores = np.empty((table.num_rows, len(self.classes)))
        token_a, start_a, end_a = self._tokens(table, "text")
        token_b, start_b, end_b = self._tokens(table, "text_b")
        order = np.argsort(end_a - start_a, kind="stable")  # neighbours of one length need no padding
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            inputs = {
                "segment_a": _padded(token_a, start_a[rows], end_a[rows]),
                "segment_a_length": end_a[rows] - start_a[rows],
                "segment_of_row": np.arange(len(rows)),
                "segment_b": _padded(token_b, start_b[rows], end_b[rows]),
                "categorical": np.zeros((len(rows), 0), np.int32),
                "dense": np.zeros((len(rows), 0), np.float32),
            }
            told = {name: value for name, value in inputs.items() if name in self.fed}
            self.lap("mapping", *told.values())
            (logit,) = self.session.run(["logit"], told)
            scores[rows] = _softmax(logit.astype(np.float64))
            self.lap("head", *told.values(), logit)
        return scores

    def _tokens(self, table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of a column's texts, one after the other, and the range of each row among them.

        A missing column is empty, and so is one that the model does not read. The tokenizer cuts long texts as it did in training.
        """
        if name not in table.column_names or (name == "text_b" and not self.signature["max_length_b"]):
            zero = np.zeros(table.num_rows, np.int64)
            return np.zeros(0, np.int32), zero, zero
        texts = ["" if text is None else text for text in table[name].to_pylist()]
        tokens, offsets = self.tokenizer.encode(texts)
        return tokens, offsets[:-1], offsets[1:]


def _padded(tokens: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Ranges of tokens as right-padded int32 (rows, longest, 1), at least one position wide."""
    length = end - start
    offset = np.arange(max(int(length.max(initial=0)), 1))
    inside = offset < length[:, None]  # (rows, longest)
    padded = np.full(inside.shape, PAD, np.int32)
    padded[inside] = tokens[(start[:, None] + offset)[inside]]
    return padded[:, :, None]


def _softmax(logit: np.ndarray) -> np.ndarray:
    odds = np.exp(logit - logit.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _check_text(kind: pa.DataType, column: pa.ChunkedArray, name: str) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not is_text and column.null_count < len(column):
        raise TextRowsError(f"column {name} must hold text, not {kind}")


def _text_column(values: pd.Series, name: str) -> pa.Array:
    """Texts from Python objects; halves of surrogate pairs, which no file may hold, become the replacement character."""
    texts = []
    for value in values:
        if not isinstance(value, str) and not pd.isna(value):
            raise TextRowsError(f"column {name} must hold text, not {type(value).__name__}")
        texts.append(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else None)
    return pa.array(texts, pa.string())


def _untold(part: str, *moved: np.ndarray) -> None:
    """Nobody wants to know what the parts of the work cost."""


class _Source(SourceFileLoader):
    """Runs a file as it is: bytecode beside it, which no digest covers, is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_tokenizer(root: Path) -> Any:
    """The tokenizer that read the training texts, from its own file beside the graph."""
    loader = _Source("student_tokenizer", str(root / "tokenizer.py"))
    module: Any = importlib.util.module_from_spec(ModuleSpec(loader.name, loader, origin=loader.path))
    loader.exec_module(module)
    described, vocabulary = (json.loads((root / f"{name}.json").read_text(encoding="utf-8")) for name in ("tokenizer", "vocabulary"))
    return module.KINDS[described["kind"]].from_dict(described, vocabulary["token"])


SCORER, ERROR = TextScorer, TextRowsError  # by these names whoever loads an exported student finds them, whatever it scores
