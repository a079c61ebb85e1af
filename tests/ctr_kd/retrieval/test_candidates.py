"""Retrieval of candidates: literal vectors, live items only, and popularity where a history says nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ctr_kd.models.layers import TokenEmbedding
from ctr_kd.retrieval.candidates import EmbeddingsMissing, ItemEmbeddings, Retriever
from tests.signatures import click_signature

VECTORS = {"east": (1.0, 0.0), "north": (0.0, 1.0), "north-east": (1.0, 1.0), "west": (-1.0, 0.0), "south": (0.0, -1.0)}


def write_graph(directory: Path, **tables: np.ndarray) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    initializers = [
        numpy_helper.from_array(table.astype(np.float32), f"student.token.tables.{name}.weight") for name, table in tables.items()
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "student", [value], [result], initializers)
    onnx.save(helper.make_model(graph), directory / "student.onnx")
    return directory


def scorer_of(**tokens: list[int]) -> Any:
    """A scorer that knows items by name, each with its tokens."""
    places = {name: 2 + place for place, name in enumerate(tokens)}
    width = len(next(iter(tokens.values())))
    return SimpleNamespace(
        signature=click_signature(tokens={**dict(zip(("item", "kind"), [10] * width, strict=False)), "gap": 24}).to_json(),
        items=lambda ids: np.array([0 if v is None else places.get(str(v), 1) for v in ids.to_pylist()]),
        item_tokens=np.array([[0] * width, [1] + [0] * (width - 1), *tokens.values()], np.int32),
    )


@pytest.fixture
def compass(tmp_path: Path) -> ItemEmbeddings:
    table = np.concatenate([np.full((5, 2), 9.0), np.array(list(VECTORS.values()))])
    return ItemEmbeddings(write_graph(tmp_path, item=table), scorer_of(**{name: [5 + place] for place, name in enumerate(VECTORS)}))


def names(found: np.ndarray, items: list[str]) -> list[list[str]]:
    return [[items[place] for place in row if place >= 0] for row in found]


def test_the_nearest_live_items_that_are_no_history(compass: ItemEmbeddings) -> None:
    items = ["south", "north-east", "north", "west"]
    retriever = Retriever(compass, pa.array(items), np.array([1, 1, 1, 1]))
    histories = pa.array([["east"], ["north", "east"], ["north"]])
    found = names(retriever.find(histories, 2), items)
    assert [row[0] for row in found] == ["north-east"] * 3
    assert "north" not in found[1] + found[2]
    assert found[2][1] == "west"  # at a right angle to north, south is opposite


def test_a_history_that_says_nothing_gets_what_is_popular(compass: ItemEmbeddings) -> None:
    items = ["south", "north-east", "stranger", "west"]
    retriever = Retriever(compass, pa.array(items), np.array([1, 5, 9, 5]))
    assert retriever.reachable.tolist() == [0, 1, 3]
    histories = pa.array([[], ["nobody"], None], pa.list_(pa.string()))
    assert names(retriever.find(histories, 3), items) == [["stranger", "north-east", "west"]] * 3
    # What retrieval cannot reach still follows where the others are used up.
    assert names(retriever.find(pa.array([["west"]]), 9), items) == [["south", "north-east", "stranger"]]


def test_an_unknown_item_with_known_attributes_is_reached(tmp_path: Path) -> None:
    ids, kinds = np.zeros((6, 2)), np.concatenate([np.zeros((5, 2)), [[0.0, 2.0], [2.0, 0.0]]])
    ids[5] = (0.0, 1.0)
    scorer = scorer_of(**{"old": [5, 5], "new-up": [1, 5], "new-right": [1, 6]})
    embeddings = ItemEmbeddings(write_graph(tmp_path, item=ids, kind=kinds), scorer)
    vectors, known = embeddings.of(pa.array(["old", "new-up", "new-right", "blank"]))
    assert known.tolist() == [True, True, True, False]
    assert vectors[:3].tolist() == [[0.0, 3.0], [0.0, 2.0], [2.0, 0.0]]
    items = ["new-right", "new-up"]
    assert names(Retriever(embeddings, pa.array(items), np.ones(2)).find(pa.array([["old"]]), 1), items) == [["new-up"]]


def test_an_attribute_whose_name_no_table_can_have_is_read_by_its_place(tmp_path: Path) -> None:
    table = TokenEmbedding({"item": 6, "type": 7, "gap": 24}, 2)
    write_graph(tmp_path, **{name.split(".")[1]: weight.numpy() for name, weight in table.state_dict().items()})
    scorer = scorer_of(old=[5, 6])
    scorer.signature["tokens"] = {"item": 6, "type": 7, "gap": 24}
    vectors, _ = ItemEmbeddings(tmp_path, scorer).of(pa.array(["old"]))
    np.testing.assert_allclose(vectors, table(torch.tensor([[5, 6, 0]])).detach())


def test_a_graph_without_embeddings_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingsMissing, match=r"no embeddings of item, so it cannot retrieve"):
        ItemEmbeddings(write_graph(tmp_path), scorer_of(old=[5]))


@given(st.lists(st.lists(st.integers(0, 11), max_size=5), min_size=1, max_size=5), st.integers(1, 12), st.integers(0, 9))
def test_found_items_are_live_distinct_unclicked_and_as_many_as_there_can_be(histories: list[list[int]], k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    live = rng.permutation(12)[:8]
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    embeddings = SimpleNamespace(
        of=lambda ids: (vectors[[int(v) for v in ids.to_pylist()]], np.array([int(v) % 4 > 0 for v in ids.to_pylist()], bool))
    )
    found = Retriever(embeddings, pa.array(live), rng.integers(0, 5, 8)).find(pa.array(histories, pa.list_(pa.int64())), k)  # type: ignore[arg-type]
    for history, places in zip(histories, found, strict=True):
        chosen = [int(live[place]) for place in places if place >= 0]
        assert len(set(chosen)) == len(chosen) == min(k, 8 - len(set(history) & set(live.tolist())))
        assert not set(chosen) & set(history)
        query = [vectors[item] for item in history if item % 4 > 0]
        if query:
            near = [item for item in live.tolist() if item % 4 > 0 and item not in history]
            cosine = {item: vectors[item] @ np.mean(query, 0) / np.linalg.norm(vectors[item]) for item in near}
            expected = sorted(near, key=lambda item: -cosine[item])[:k]
            assert chosen[: len(expected)] == expected
