"""The student alone, as one graph in one file with its vocabularies beside it: ``student.onnx`` runs without torch."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from ctr_kd import scorer
from ctr_kd.batching import Batch
from ctr_kd.samples import GAP, GAP_BUCKETS, SPECIALS, Assembly, Signature

OPSET = 17
INPUTS = Batch._fields


def export_student(model: nn.Module, signature: Signature, assembly: Assembly, directory: Path) -> None:
    """Write everything that production needs of a student, and nothing else.

    Parameters
    ----------
    model : Module
        The trained student; its ``forward`` takes the fields of :class:`ctr_kd.batching.Batch`.
    signature : Signature
    assembly : Assembly
        Source of the vocabularies and of the items' attributes.
    directory : Path
        Receives ``student.onnx``, ``vocabulary.parquet``, ``items.parquet``, ``signature.json`` and ``scorer.py``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    export_graph(model, signature, directory / "student.onnx")
    features = [name for name in [*signature.tokens, *signature.categorical] if name != GAP]
    pq.write_table(
        pa.table(
            {
                "feature": pa.array([name for name in features for _ in assembly.vocabulary[name]], pa.string()),
                "token": pa.array([token for name in features for token in assembly.vocabulary[name]], pa.string()),
            }
        ),
        directory / "vocabulary.parquet",
    )
    _write_items(assembly, directory / "items.parquet")
    (directory / "signature.json").write_text(json.dumps(graph_signature(signature, assembly), indent=2) + "\n")
    shutil.copyfile(scorer.__file__, directory / "scorer.py")


def graph_signature(signature: Signature, assembly: Assembly) -> dict[str, Any]:
    """Describe the graph's named inputs and the raw columns that become them."""
    return {
        "inputs": {
            "segment_a": "int32 (segments, length, token features): distinct histories, oldest first, padded with 0 on the right",
            "segment_a_length": "int64 (segments): clicks in each history",
            "segment_of_row": "int64 (rows): the history of each row",
            "segment_b": "int32 (rows, 1, token features): candidate",
            "categorical": "int32 (rows, categorical features)",
            "dense": "float32 (rows, dense inputs): NaN where null",
        },
        "output": "logit (rows, outputs); the score is its sigmoid",
        "special_tokens": list(SPECIALS),
        "gap_buckets": GAP_BUCKETS,
        "user_attributes": assembly.user_attributes,
        "negative_sampling_rate": assembly.summary.get("negative_sampling_rate"),
        **signature.to_dict(),
    }


def export_graph(model: nn.Module, signature: Signature, path: Path) -> None:
    """Write the graph of a model in eval mode, with dynamic segments, lengths and rows."""
    model.eval()
    features = len(signature.tokens)
    example = Batch(
        torch.ones(2, 3, features, dtype=torch.int32),
        torch.tensor([3, 1]),
        torch.tensor([0, 0, 1]),
        torch.ones(3, 1, features, dtype=torch.int32),
        torch.ones(3, len(signature.categorical), dtype=torch.int32),
        torch.zeros(3, len(signature.dense)),
    )
    axes = {
        "segment_a": {0: "segments", 1: "length"},
        "segment_a_length": {0: "segments"},
        "segment_of_row": {0: "rows"},
        "segment_b": {0: "rows"},
        "categorical": {0: "rows"},
        "dense": {0: "rows"},
        "logit": {0: "rows"},
    }
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one that needs onnxscript, and it warns of LSTMs whose initial
        # state would be constant; ours derives it from the batch. A test runs the graph at other sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(example),
            str(path),
            dynamo=False,
            input_names=list(INPUTS),
            output_names=["logit"],
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    graph = onnx.load(str(path))
    # An input that the model does not read (no categorical context, say) is pruned by the exporter; the scorer feeds what is listed.
    onnx.checker.check_model(graph)


def _write_items(assembly: Assembly, path: Path) -> None:
    """Attributes of the items, so that a raw id becomes all its token features; a log without attributes has no such file."""
    names = assembly.token_names[1:]
    if names:
        items = pq.read_table(assembly.directory / "items.parquet", columns=["item_id", *names])
        known = np.flatnonzero((assembly.item_tokens[:, 1:] > 0).any(axis=1))
        pq.write_table(items.take(pa.array(known)), path)
