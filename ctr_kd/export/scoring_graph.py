"""A student behind its look-ups: what the scorer of clicks runs in place of ``student.onnx``, in a fraction of the time.

Most of what a small student does with a row is to look vectors up and to add them. That is linear, so much of it is done here, once:

- The embeddings of an item and of its attributes become one row of one table.
- A mean of a history's clicks, whatever a click's age weighs, is a sum of such rows by weights that depend on the number of clicks alone.
- What the context adds to the head's first layer is a sum of rows, too: one for each category; and since the code of a number is
  piecewise linear (:class:`ctr_kd.models.layers.PiecewiseLinear`), two for each number, those of the knots on both sides of it.

The scorer sums rows, by products of sparse matrices with tables, and the graph goes on from there. A test holds both to what the trained
student says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.data.samples import Signature
from ctr_kd.export.onnx_graph import write_graph
from ctr_kd.models.bilstm import BiLSTM
from ctr_kd.models.calibrated import Calibrated
from ctr_kd.models.dcn import DCN
from ctr_kd.models.din import DIN
from ctr_kd.models.layers import chained, pair_features
from ctr_kd.models.pooled import Pooled
from ctr_kd.models.user_state import state_numbers

GRAPH, TABLES = "scoring.onnx", "tables.parquet"
Table = tuple[str, str, Tensor]  # its kind, what it is of, and its rows


def export_scoring_graph(model: nn.Module, signature: Signature, directory: Path) -> None:
    """Write ``scoring.onnx`` and ``tables.parquet`` for a student of ours; for another one, or with vectors in the context, nothing.

    Parameters
    ----------
    model : Module
        A student of clicks, calibrated or not, in eval mode.
    signature : Signature
    directory : Path
    """
    student: Any = model.student if isinstance(model, Calibrated) else model
    calibration = model.calibration if isinstance(model, Calibrated) else nn.Identity()
    kind = {Pooled: _Sums, DCN: _CrossedSums, BiLSTM: _Sequence, DIN: _Attention}.get(type(student))  # a subclass may do anything else
    if kind is None or not signature.vectors.keys().isdisjoint(signature.categorical) or not all(map(_are_apart, signature.dense.values())):
        return
    behind = kind(student, calibration).eval()
    rows, width = 3, student.token.width
    inputs = {
        **behind.histories(width),
        "segment_of_row": torch.tensor([0, 0, 1]),
        "candidate": torch.zeros(rows, width),
        "context": torch.zeros(rows, student.head.layers[0].out_features),
        "categorical": torch.ones(rows, len(signature.categorical), dtype=torch.int32),
        "dense": torch.zeros(rows, len(signature.dense)),
    }
    axes = {name: {0: "rows"} for name in inputs} | {name: {0: "segments"} for name in behind.histories(width)} | {"logit": {0: "rows"}}
    axes |= {"clicks": {0: "segments", 1: "length"}} if "clicks" in inputs else {}
    write_graph(behind, inputs, axes, directory / GRAPH)
    pq.write_table(pa.concat_tables(map(_stored, behind.tables(signature))), directory / TABLES)


def _are_apart(knots: list[float]) -> bool:
    """Whether single precision, in which a student reads numbers, tells knots as far apart as they are: seconds since 1970 are not."""
    exact = np.array(knots, np.float64)
    return np.allclose(np.diff(exact.astype(np.float32).astype(np.float64)), np.diff(exact), rtol=1e-2, atol=0)


class _Behind(nn.Module):
    """What comes behind the look-ups: from vectors of clicks, of a candidate and of the context to calibrated logits."""

    student: Any
    calibration: Any

    def __init__(self, student: nn.Module, calibration: nn.Module) -> None:
        super().__init__()
        self.student, self.calibration = student, calibration

    def histories(self, width: int) -> dict[str, Tensor]:
        """Examples of the inputs that say what two histories are."""
        raise NotImplementedError

    def history_of_row(self, history: Tensor, length: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        """Vectors (rows, width) of histories as the rows see them."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor) -> Tensor:
        """Calibrated logits (rows, outputs) of the inputs of the graph, in their order."""
        history, length, segment_of_row, candidate, context, categorical, dense = inputs
        of_row = self.student.user_state(self.history_of_row(history, length, segment_of_row, candidate), dense)
        logits: Tensor = self.calibration(self.answer(of_row, candidate, context, categorical, dense))
        return logits

    def answer(self, history: Tensor, candidate: Tensor, context: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        """Logits (rows, outputs); ``context`` (rows, hidden) is what the categories and the numbers add to the first layer of the head."""
        first, *others = self.student.head.layers
        features = pair_features(history, candidate)
        hidden = F.linear(features, first.weight[:, : features.shape[1]], first.bias)
        if len(self.student.context.tables) or self.student.context.has_dense:
            hidden = hidden + context
        if self.student.context.has_states:
            numbers = state_numbers(dense, self.student.context.states)
            hidden = hidden + F.linear(numbers, first.weight[:, first.in_features - numbers.shape[1] :])
        logits: Tensor = nn.Sequential(*others)(hidden)
        return chained(logits) if self.student.chain else logits

    def tables(self, signature: Signature) -> Iterator[Table]:
        """What the scorer looks up."""
        for name, own in zip(signature.tokens, self.student.token.names, strict=True):
            if name not in signature.vectors:  # of which the scorer makes the rows
                yield "token", name, self.student.token.tables[own].weight
        yield from self.of_context(signature)

    def of_context(self, signature: Signature) -> Iterator[Table]:
        """What each category, and each knot of each number, adds to the first layer of the head; a number's last row is that of a null."""
        context, weight = self.student.context, self.student.head.layers[0].weight.double()
        at = weight.shape[1] - context.size
        for table, places in zip(context.tables, context.places, strict=True):
            rows = table.weight.double() @ weight[:, at : at + table.embedding_dim].T
            at += table.embedding_dim
            yield from (("categorical", list(signature.categorical)[place], rows) for place in places)
        if not context.has_dense:
            return
        names = [list(signature.dense)[place] for place in context.others.tolist()]
        bins = context.dense.low.shape[1]
        filled = weight[:, at : at + len(names) * bins].unflatten(1, (len(names), bins))  # (hidden, numbers, bins), from below
        null = weight[:, at + len(names) * bins :]  # (hidden, numbers and states)
        for n, name in enumerate(names):
            knots = filled[:, n, : len(signature.dense[name]) - 1].cumsum(1)
            yield "dense", name, torch.cat([torch.zeros_like(null[:, :1]), knots, null[:, n : n + 1]], dim=1).T


class _Sums(_Behind):
    """Of a pooled student: the scorer gives the sums of a history's clicks by each way to weigh them, one after the other."""

    def ways(self, longest: int) -> Tensor:
        """Weights (ways, longest + 1, longest) of the clicks of histories by their length, oldest first, zero behind their end."""
        length = torch.arange(longest + 1)
        inside = torch.arange(longest) < length[:, None]
        plain = self.student.combine(inside.float().unsqueeze(2), length)  # of as many ones: what each of them weighs, times their number
        ways = [inside * plain / length.clamp(min=1)[:, None]]
        if self.student.recency is not None:
            ways += list(self.student.recency.weights(length, longest).masked_fill(~inside.unsqueeze(2), 0.0).permute(2, 0, 1))
        return torch.stack(ways)

    def histories(self, width: int) -> dict[str, Tensor]:
        return {"history": torch.zeros(2, width * len(self.ways(1))), "segment_a_length": torch.tensor([3, 1])}

    def history_of_row(self, history: Tensor, length: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        width = self.student.token.width
        combined = history[:, :width]
        if self.student.recency is not None:
            combined = combined + self.student.recency.layer(history[:, width:])
        return combined.index_select(0, segment_of_row)

    def tables(self, signature: Signature) -> Iterator[Table]:
        yield from super().tables(signature)
        yield from (("way", str(number), way) for number, way in enumerate(self.ways(signature.max_length)))


class _CrossedSums(_Sums):
    """Of a cross network, whose context is multiplied by everything else: it is encoded in the graph."""

    def answer(self, history: Tensor, candidate: Tensor, context: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        logits: Tensor = self.student.answer(history, candidate, self.student.context(categorical, dense))
        return logits

    def of_context(self, signature: Signature) -> Iterator[Table]:
        return iter(())


class _Sequence(_Behind):
    """Of a biLSTM: the scorer gives the vector of each click."""

    def histories(self, width: int) -> dict[str, Tensor]:
        return {"clicks": torch.zeros(2, 3, width), "segment_a_length": torch.tensor([3, 1])}

    def history_of_row(self, history: Tensor, length: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        read: Tensor = self.student.read(history, length)
        return read.index_select(0, segment_of_row)


class _Attention(_Sequence):
    """Of target attention: each row has its own view of the clicks."""

    def history_of_row(self, history: Tensor, length: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        seen: Tensor = self.student.attend(history, segment_of_row, candidate)
        return seen


def _stored(table: Table) -> pa.Table:
    """A table as rows of a file, in single precision."""
    kind, name, rows = table
    count, width = rows.shape
    values = pa.array(rows.detach().float().flatten().numpy())
    vectors = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width)), values)
    return pa.table({"kind": pa.repeat(kind, count), "name": pa.repeat(name, count), "vector": vectors})
