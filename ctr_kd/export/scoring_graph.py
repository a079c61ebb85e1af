"""A student behind its look-ups: what the scorer of clicks runs in place of ``student.onnx``, in a fraction of the time.

Most of what a small student does with a row is to look vectors up and to add them. That is linear, so much of it is done here, once:

- The embeddings of an item and of its attributes become one row of one table.
- A mean of a history's clicks, whatever a click's age weighs, is a sum of such rows by weights that depend on the number of clicks alone.
- The code of a number (:class:`ctr_kd.models.layers.PiecewiseLinear`) has its own bins and no others.

The scorer sums rows, by products of sparse matrices with tables, and the graph goes on from there. A test holds both to what the trained
student says.
"""

from __future__ import annotations

import copy
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
from ctr_kd.models.layers import BEYOND, PiecewiseLinear
from ctr_kd.models.pooled import Pooled

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
    kind = {Pooled: _Sums, DCN: _Sums, BiLSTM: _Sequence, DIN: _Attention}.get(type(student))  # a subclass may do anything else
    if kind is None or not signature.vectors.keys().isdisjoint(signature.categorical):
        return
    behind = kind(student, calibration).eval()
    rows, width = 3, student.token.width
    inputs = {
        **behind.histories(width),
        "segment_of_row": torch.tensor([0, 0, 1]),
        "candidate": torch.zeros(rows, width),
        "categorical": torch.ones(rows, len(signature.categorical), dtype=torch.int32),
        "dense": torch.zeros(rows, len(signature.dense)),
    }
    axes = {name: {0: "rows"} for name in inputs} | {name: {0: "segments"} for name in behind.histories(width)} | {"logit": {0: "rows"}}
    axes |= {"clicks": {0: "segments", 1: "length"}} if "clicks" in inputs else {}
    write_graph(behind, inputs, axes, directory / GRAPH)
    pq.write_table(pa.concat_tables(map(_stored, behind.tables(signature))), directory / TABLES)


class _Behind(nn.Module):
    """What comes behind the look-ups: from vectors of clicks, of a candidate and of the context to calibrated logits."""

    student: Any
    calibration: Any

    def __init__(self, student: nn.Module, calibration: nn.Module) -> None:
        super().__init__()
        self.student, self.calibration = _without_empty_bins(student), calibration

    def histories(self, width: int) -> dict[str, Tensor]:
        """Examples of the inputs that say what two histories are."""
        raise NotImplementedError

    def history_of_row(self, history: Tensor, length: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        """Vectors (rows, width) of histories as the rows see them."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor) -> Tensor:
        """Calibrated logits (rows, outputs) of the inputs of the graph, in their order."""
        history, length, segment_of_row, candidate, categorical, dense = inputs
        of_row = self.student.user_state(self.history_of_row(history, length, segment_of_row, candidate), dense)
        logits: Tensor = self.calibration(self.student.answer(of_row, candidate, self.student.context(categorical, dense)))
        return logits

    def tables(self, signature: Signature) -> Iterator[Table]:
        """What the scorer looks up."""
        for name, own in zip(signature.tokens, self.student.token.names, strict=True):
            if name not in signature.vectors:  # of which the scorer makes the rows
                yield "token", name, self.student.token.tables[own].weight


def _without_empty_bins(student: Any) -> Any:
    """A copy of a student that encodes numbers with their own bins alone.

    The code of a number has as many bins as the longest one's. Those that a number lacks are zero, and stay so in every cross: of the
    default log they are half of all inputs.
    """
    student = copy.deepcopy(student)
    context, first = student.context, student.head.layers[0]
    if not context.has_dense:
        return student
    code = context.dense
    begin = first.in_features - (len(context.states) + 1 if context.has_states else 0) - code.size  # of the code, among all inputs
    kept = torch.ones(first.in_features, dtype=torch.bool)
    kept[begin : begin + code.low.numel()] = (code.low < BEYOND).flatten()
    context.dense = _OwnBins(code)
    first.weight = nn.Parameter(first.weight[:, kept])
    for cross in getattr(student, "crosses", ()):
        cross.narrow.weight = nn.Parameter(cross.narrow.weight[:, kept])
        cross.widen.weight, cross.widen.bias = nn.Parameter(cross.widen.weight[kept]), nn.Parameter(cross.widen.bias[kept])
    return student


class _OwnBins(nn.Module):
    """The code of :class:`ctr_kd.models.layers.PiecewiseLinear` without the bins that no value reaches."""

    of_number: Tensor
    low: Tensor
    scale: Tensor

    def __init__(self, code: PiecewiseLinear) -> None:
        super().__init__()
        reached = code.low < BEYOND
        number = reached.nonzero()[:, 0]  # whose bin each is
        # ONNX Runtime multiplies in a tenth of the time that it takes to pick columns, and one times a number is the number
        self.register_buffer("of_number", F.one_hot(number, len(code.low)).T.float())  # (inputs, bins of all)
        self.register_buffer("low", code.low[reached])
        self.register_buffer("scale", code.scale[reached])

    def forward(self, dense: Tensor) -> Tensor:
        """Encode ``dense`` (rows, inputs) into (rows, bins of all + inputs)."""
        null = torch.isnan(dense)  # (rows, inputs)
        value = torch.where(null, torch.full_like(dense, -BEYOND), dense) @ self.of_number  # (rows, bins of all)
        return torch.cat([((value - self.low) * self.scale).clamp(0.0, 1.0), null.to(dense.dtype)], dim=1)


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
