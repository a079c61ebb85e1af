"""The student of next items as files that run without torch.

student.onnx     histories (indices of items, the newest first) and their length to a vector of each; it holds a row per item
items.parquet    item_id and vector, in the order of the indices behind the special ones; the last number of a vector is the item's bias
signature.json   inputs, output, longest history, and the sha256 of the two files above
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ctr_kd.export.next_item_signature import FILES, GRAPH, ITEMS, NextItemSignature
from ctr_kd.export.onnx_graph import write_graph
from ctr_kd.models.next_item import NextItemStudent
from feature_store.special_tokens import SPECIALS
from feature_store.tables.files import sha256_of


class _Serving(nn.Module):
    """The student with the vectors of its items folded into one table, and a 1 behind a history's vector that meets an item's bias."""

    def __init__(self, student: NextItemStudent, vectors: Tensor) -> None:
        super().__init__()
        self.student = student
        self.register_buffer("vectors", vectors)

    def forward(self, items: Tensor, length: Tensor) -> Tensor:
        state = self.student(items, length, self.get_buffer("vectors"))
        return torch.cat([state, torch.ones_like(state[:, :1])], dim=1)


def export_next_item(student: NextItemStudent, ids: list[str], max_length: int, directory: Path) -> None:
    """Write what production needs to say what comes next.

    Parameters
    ----------
    student : NextItemStudent
    ids : list of str
        Raw ids of the items, in the order of their indices behind the special ones.
    max_length : int
        Clicks of a history that the student was trained on: one less than its longest sequences have.
    directory : Path
        Receives the three files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    student = student.eval().cpu()
    with torch.no_grad():
        vectors = student.item_vectors()
        whole = torch.cat([vectors, student.bias[:, None]], dim=1)[len(SPECIALS) :].numpy().astype(np.float32)
    write_graph(
        _Serving(student, vectors).eval(),  # the exporter leaves a model in the mode that it was in
        {"items": torch.zeros(2, max_length, dtype=torch.int64), "length": torch.tensor([max_length, 0])},
        {"items": {0: "histories", 1: "length"}, "length": {0: "histories"}, "vector": {0: "histories"}},
        directory / GRAPH,
        output="vector",
    )
    rows = pa.FixedSizeListArray.from_arrays(pa.array(whole.ravel()), whole.shape[1])
    pq.write_table(pa.table({"item_id": pa.array(ids, pa.string()), "vector": rows}), directory / ITEMS)
    NextItemSignature(
        inputs={
            "items": "int64 (histories, length): indices of the items, the newest first, padded with 0 on the right",
            "length": "int64 (histories): clicks of each",
        },
        outputs={"vector": "float32 (histories, width): its product with an item's vector orders the items"},
        special_tokens=list(SPECIALS),
        max_length=max_length,
        width=whole.shape[1],
        sha256={name: sha256_of(directory / name) for name in FILES},
    ).write(directory)
