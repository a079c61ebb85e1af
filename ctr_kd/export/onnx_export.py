"""The student alone, as one graph in one file with what feeds it beside it: ``student.onnx`` runs without torch."""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ctr_kd.data.batching import Batch
from ctr_kd.data.samples import GAP, GAP_BUCKETS, Assembly, Signature
from ctr_kd.data.texts import AnyAssembly, TextAssembly
from ctr_kd.export import text_scorer
from ctr_kd.export.onnx_graph import write_graph
from ctr_kd.export.projections import write_projections
from ctr_kd.export.release_code import click_scorer_code
from ctr_kd.export.scoring_graph import export_scoring_graph
from ctr_kd.export.signature import ClickSignature, RawColumns, TextSignature, score_column
from ctr_kd.models.layers import GivenVectors
from feature_store.features.statistics import TEACHER_STATE
from feature_store.special_tokens import PAD, SPECIALS, UNKNOWN
from feature_store.tables import casting
from feature_store.tables.casting import as_array
from feature_store.tables.column_names import HISTORY_TYPES
from feature_store.tables.json_files import load_json
from feature_store.tables.parquet_files import read_parquet

INPUTS = Batch._fields


def export_student(model: nn.Module, signature: Signature, assembly: AnyAssembly, directory: Path) -> None:
    """Write everything that production needs of a student, and nothing else.

    Parameters
    ----------
    model : Module
        The trained student; its ``forward`` takes the fields of :class:`ctr_kd.data.batching.Batch`.
    signature : Signature
    assembly : Assembly or TextAssembly
        Source of the vocabularies, and of the items' attributes or the tokenizer.
    directory : Path
        Receives ``student.onnx``, ``signature.json``, ``scorer.py`` and what it reads: ``vocabulary.parquet``, ``items.parquet``,
        ``projections.parquet``, ``scoring.onnx`` and ``tables.parquet``, or the tokenizer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    export_graph(model, signature, directory / "student.onnx")
    if signature.vectors:
        write_projections(given_vectors(model, signature), directory)
    if isinstance(assembly, Assembly):
        export_scoring_graph(model, signature, directory)
    WRAPPERS[type(assembly)](signature, assembly, directory).write(directory)


INPUTS_AND_OUTPUT: dict[str, Any] = {
    "inputs": {
        "segment_a": "int32 (segments, length, token features): distinct histories, oldest first, or texts; padded with 0 on the right",
        "segment_a_length": "int64 (segments): tokens of each",
        "segment_of_row": "int64 (rows): the segment A of each row",
        "segment_b": "int32 (rows, length b, token features): candidate (one token) or second text, padded with 0 on the right",
        "categorical": "int32 (rows, categorical features)",
        "dense": "float32 (rows, dense inputs): NaN where null",
    },
    "output": "logit (rows, outputs); scores are the sigmoid of one, the softmax of several",
    "special_tokens": list(SPECIALS),
}


def wrap_clicks(signature: Signature, assembly: Assembly, directory: Path) -> ClickSignature:
    """Write what turns raw ids into inputs, and describe the raw columns.

    Parameters
    ----------
    signature : Signature
    assembly : Assembly
    directory : Path
        Receives ``vocabulary.parquet``, ``items.parquet`` where items have attributes, ``scorer.py`` and ``casting.py``.
    """
    features = [name for name in [*signature.tokens, *signature.categorical] if name != GAP and name not in signature.vectors]
    vocabulary = assembly.vocabulary | ({HISTORY_TYPES: list(assembly.types)} if assembly.types else {})
    pq.write_table(
        pa.table(
            {
                "feature": pa.array([name for name in features for _ in vocabulary[name]], pa.string()),
                "token": pa.array([token for name in features for token in vocabulary[name]], pa.string()),
            }
        ),
        directory / "vocabulary.parquet",
    )
    _write_items(assembly, directory / "items.parquet")
    (directory / "scorer.py").write_bytes(click_scorer_code())
    shutil.copyfile(casting.__file__, directory / "casting.py")
    optional = ["history_timestamps", *([HISTORY_TYPES] if assembly.types else []), *signature.categorical, *signature.dense]
    optional += [] if assembly.summary.teacher_state is None else [TEACHER_STATE]  # its numbers in one list
    answer = {"score": "double", **{score_column(label): "double" for label in signature.labels}}
    several = {"output": "logit (rows, outputs): of the click, then of each further label; scores are their sigmoids"}
    described = {
        **INPUTS_AND_OUTPUT,
        **(several if signature.labels else {}),
        "inputs": INPUTS_AND_OUTPUT["inputs"]
        | {
            f"vectors_{n}": f"float32 (indices, width): {name}, projected; 0 is padding, 1 what has none"
            for n, name in enumerate(signature.vectors)
        },
    }
    return ClickSignature(
        **described,
        **signature.to_dict(),
        gap_buckets=GAP_BUCKETS,
        user_attributes=assembly.user_attributes,
        **({"has_types": True} if assembly.types else {}),
        **({} if assembly.summary.title_encoder is None else {"title_encoder": assembly.summary.title_encoder}),
        **({"looked_up": assembly.summary.categorical_facts} if assembly.summary.categorical_facts else {}),
        negative_sampling_rate=assembly.summary.negative_sampling_rate,
        columns=RawColumns(required=["history", "item_id", "timestamp"], optional=optional, answer=answer),
    )


def wrap_texts(signature: Signature, assembly: TextAssembly, directory: Path) -> TextSignature:
    """Write what turns raw texts into inputs, and describe the raw columns and the classes.

    Parameters
    ----------
    signature : Signature
    assembly : TextAssembly
    directory : Path
        Receives ``tokenizer.json``, ``vocabulary.json``, the tokenizer's own file as ``tokenizer.py``, and ``scorer.py``.
    """
    from feature_store.text.tokenizers import TOKENIZERS

    for name in ("tokenizer.json", "vocabulary.json"):
        shutil.copyfile(assembly.view / name, directory / name)
    tokenizer = TOKENIZERS[load_json(directory / "tokenizer.json")["kind"]]
    shutil.copyfile(inspect.getfile(tokenizer), directory / "tokenizer.py")
    shutil.copyfile(text_scorer.__file__, directory / "scorer.py")
    columns = class_columns(assembly.classes)
    answer = {"label": "string", "score": "double", **dict.fromkeys(columns, "double")}
    return TextSignature(
        **INPUTS_AND_OUTPUT,
        **signature.to_dict(),
        classes=assembly.classes,
        class_columns=columns,
        packages=packages_of(directory / "tokenizer.py"),
        columns=RawColumns(required=["text"], optional=["text_b"] if signature.max_length_b else [], answer=answer),
    )


def class_columns(classes: Sequence[str]) -> list[str]:
    """Names of the columns in which each class has its probability: its own, unless another column has that.

    Examples
    --------
    >>> class_columns(["sports", "label", "class label"])
    ['sports', 'class class label', 'class label']
    """
    columns: list[str] = []
    for name in classes:
        column = name
        while column in ("label", "score", "text", "text_b", "model_version") or (column != name and column in (*classes, *columns)):
            column = f"class {column}"
        columns.append(column)
    return columns


WRAPPERS: dict[type, Callable[..., ClickSignature | TextSignature]] = {Assembly: wrap_clicks, TextAssembly: wrap_texts}


def packages_of(file: Path) -> list[str]:
    """Packages from a registry that a file of Python imports, anywhere in it; numpy, which every scorer needs, is not named.

    Raises
    ------
    ValueError
        When it imports this project: then it could not run in production.
    """
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"numpy"}
    ours = packages & {"feature_store", "ctr_kd", "pipelines", ""}
    if ours:
        raise ValueError(f"{file.name} imports {', '.join(sorted(ours))}, so the exported student would need this project")
    return sorted(packages)


def export_graph(model: nn.Module, signature: Signature, path: Path) -> None:
    """Write the graph of a model in eval mode, with dynamic segments, lengths and rows.

    Parameters
    ----------
    model : Module
        Its ``forward`` takes the fields of :class:`ctr_kd.data.batching.Batch`.
    signature : Signature
    path : Path
        Of the ONNX file.
    """
    model.eval()
    features = len(signature.tokens)
    batch = Batch(
        torch.ones(2, 3, features, dtype=torch.int32),
        torch.tensor([3, 1]),
        torch.tensor([0, 0, 1]),
        torch.ones(3, min(signature.max_length_b, 2) or 1, features, dtype=torch.int32),
        torch.ones(3, len(signature.categorical), dtype=torch.int32),
        torch.zeros(3, len(signature.dense)),
    )
    given = given_vectors(model, signature)
    tables = [torch.zeros(2, len(module.none)) for module in given]
    axes = {
        "segment_a": {0: "segments", 1: "length"},
        "segment_a_length": {0: "segments"},
        "segment_of_row": {0: "rows"},
        "segment_b": {0: "rows"} if signature.max_length_b == 1 else {0: "rows", 1: "length_b"},
        "categorical": {0: "rows"},
        "dense": {0: "rows"},
        "logit": {0: "rows"},
        **{f"vectors_{n}": {0: f"indices_{n}"} for n in range(len(tables))},
    }
    inputs = {**dict(zip(INPUTS, batch, strict=True)), **{f"vectors_{n}": table for n, table in enumerate(tables)}}
    write_graph(_WithProjected(model, given) if given else model, inputs, axes, path)


class _WithProjected(nn.Module):
    """A model that takes projected vectors as further inputs: production knows items that came after the export."""

    def __init__(self, model: nn.Module, given: list[GivenVectors]) -> None:
        super().__init__()
        self.model, self._given = model, given

    def forward(self, *inputs: Tensor) -> Tensor:
        for module, table in zip(self._given, inputs[len(INPUTS) :], strict=True):
            module.projected = table
        logit: Tensor = self.model(*inputs[: len(INPUTS)])
        for module in self._given:
            module.projected = None
        return logit


def _write_items(assembly: Assembly, path: Path) -> None:
    """Attributes and vectors of the items, so that a raw id becomes all its token features; a log without any has no such file."""
    names = [name for name in assembly.token_names[1:] if name not in (() if not assembly.types else (HISTORY_TYPES,))]
    if not names:
        return
    attributes = [name for name in names if name not in assembly.vectors]
    items = read_parquet(assembly.directory / "items.parquet", columns=["item_id", *attributes])
    for name in (name for name in names if name in assembly.vectors):
        items = items.append_column(name, narrow(read_parquet(assembly.directory / "item_vectors.parquet", columns=[name])[name]))
    places = {name: assembly.token_names.index(name) for name in names}
    said = [assembly.item_tokens[:, place] > (UNKNOWN if name in assembly.vectors else PAD) for name, place in places.items()]
    pq.write_table(items.take(pa.array(np.flatnonzero(np.any(said, axis=0)))), path)


def narrow(vectors: pa.ChunkedArray) -> pa.Array:
    """Vectors in half precision, or as they are where their numbers are too large or too small for it."""
    column = as_array(vectors)
    numbers = as_array(pc.list_flatten(column)).to_numpy(zero_copy_only=False)
    size = np.sqrt(np.square(numbers, dtype=np.float64).mean()) if len(numbers) else 0.0
    if np.abs(numbers).max(initial=0.0) > np.finfo(np.float16).max or not 1e-3 < size < 1e4:
        return column
    return pa.ListArray.from_arrays(column.offsets, pa.array(numbers.astype(np.float16), pa.float16()), mask=column.is_null())


def given_vectors(model: nn.Module, signature: Signature) -> list[GivenVectors]:
    """What projects the given vectors of a student, in the order of the signature."""
    found = {module.name: module for module in model.modules() if isinstance(module, GivenVectors)}
    return [found[name] for name in signature.vectors]
