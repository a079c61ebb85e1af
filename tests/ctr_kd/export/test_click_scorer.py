"""Raw ids to indices: the same whether few or many are looked up, in a small or a large vocabulary."""

from __future__ import annotations

import ast

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.export import click_histories, text_scorer
from ctr_kd.export.click_histories import Histories
from ctr_kd.export.click_values import PAD, UNKNOWN, Lookup
from ctr_kd.export.release_code import click_scorer_code
from feature_store import special_tokens
from feature_store.tables.casting import id_values

FIRST = 5


@pytest.mark.parametrize("vocabulary", [3, 2000, 20_000])
@pytest.mark.parametrize("count", [1, 100, 4095, 4096, 10_000])
@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.uint64(), pa.string(), pa.large_string(), "dictionary"])
def test_an_index_is_that_of_the_text(vocabulary: int, count: int, kind: pa.DataType | str) -> None:
    rng = np.random.default_rng(count)
    ids = rng.integers(-2, 25_000, count)
    null = rng.random(count) < 0.1
    values = pa.array(np.abs(ids), pa.int64(), mask=null).cast(pa.string() if isinstance(kind, str) else kind)
    values = values.dictionary_encode() if isinstance(kind, str) else values
    expected = [PAD if gone else FIRST + one if one < vocabulary else UNKNOWN for one, gone in zip(np.abs(ids), null, strict=True)]
    lookup = Lookup(pa.array([str(token) for token in range(vocabulary)]), FIRST, id_values, "item_id")
    assert lookup(values).tolist() == expected
    assert lookup(pa.chunked_array([values.slice(0, count // 2), values.slice(count // 2)])).tolist() == expected


def test_nothing_and_nulls_have_indices_too() -> None:
    lookup = Lookup(pa.array(["1", "2", "012"]), FIRST, id_values, "item_id")
    assert lookup(pa.array([], pa.string())).tolist() == []
    assert lookup(pa.nulls(2)).tolist() == [PAD, PAD]
    assert lookup(pa.array(["012", "12", None])).tolist() == [FIRST + 2, UNKNOWN, PAD]


def test_scorers_repeat_the_special_tokens_of_the_project() -> None:
    """Their files import nothing of it."""
    assert (PAD, UNKNOWN) == (special_tokens.PAD, special_tokens.UNKNOWN)
    assert text_scorer.PAD == special_tokens.PAD


def test_a_batch_holds_few_rows_and_few_histories(monkeypatch):
    monkeypatch.setattr(click_histories, "BATCH", 4)
    monkeypatch.setattr(click_histories, "HISTORIES", 2)
    none = np.zeros(0, np.int32)
    histories = Histories(none, none, none, np.array([1, 1, 1, 2]))
    found = [tuple(part.tolist() for part in batch) for batch in histories.batches(np.array([3, 3, 3, 3, 3, 0, 1, 2, 2]))]
    assert found == [
        ([5, 6], [0, 1], [0, 1]),
        ([7, 8, 0, 1], [2, 3], [0, 0, 1, 1]),
        ([2, 3, 4], [3], [0, 0, 0]),
    ]


def test_the_joined_file_imports_nothing_of_ours_and_gives_each_name_one_meaning() -> None:
    """It is all of the scorer that an export has."""
    tree = ast.parse(click_scorer_code())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert "numpy" in modules and not {name for name in modules if name.startswith(("ctr_kd", "feature_store", "pipelines"))}
    names = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    names += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    assert {"ClickScorer", "Histories", "BATCH", "SCORER"} <= set(names)
    origins: dict[str, set[str]] = {name: {"here"} for name in names}
    for node in imports:
        for alias in node.names:
            origin = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            origins.setdefault(alias.asname or alias.name, set()).add(origin)
    assert len(names) == len(set(names)) and all(len(found) == 1 for found in origins.values())
