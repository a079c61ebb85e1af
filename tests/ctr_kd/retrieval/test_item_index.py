"""Nearest items against plain NumPy, exact and by inverted lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.retrieval import item_index as retrieval
from ctr_kd.retrieval.item_index import ENOUGH_RECALL, ItemIndex


def cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """All similarities (queries, items) in double precision."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (queries, vectors))
    return a @ b.T


def clusters(items: int, seed: int = 0) -> np.ndarray:
    """Items around fifty centres, as an embedding has them."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(50, 8))[rng.integers(0, 50, items)] + 0.3 * rng.normal(size=(items, 8))


@settings(max_examples=50, deadline=None)
@given(items=st.integers(1, 40), width=st.integers(1, 6), k=st.integers(1, 45), seed=st.integers(0, 1000), whole=st.booleans())
def test_the_exact_search_equals_brute_force(items: int, width: int, k: int, seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = rng.normal(size=(items, width)), rng.normal(size=(7, width))
    if whole:  # equal items, and some of length zero
        vectors = np.round(vectors)
    index = ItemIndex(vectors)
    expected = cosines(queries, vectors)
    similarity, item = index.search(queries, k)
    assert similarity.shape == item.shape == (7, min(k, items)) and (index.kind, index.recall) == ("exact", 1.0)
    assert all(len(set(row)) == len(row) for row in item.tolist())
    np.testing.assert_allclose(similarity, np.take_along_axis(expected, item, 1), atol=1e-5)
    np.testing.assert_allclose(similarity, -np.sort(-expected, 1)[:, :k], atol=1e-5)
    similarity, item = index.neighbours(k)
    assert item.shape == (items, min(k, items - 1)) and not (item == np.arange(items)[:, None]).any()
    among = cosines(vectors, vectors)
    np.fill_diagonal(among, -2)
    np.testing.assert_allclose(similarity, -np.sort(-among, 1)[:, : min(k, items - 1)], atol=1e-5)


def test_one_item_has_no_neighbour_but_is_found() -> None:
    index = ItemIndex(np.ones((1, 3)))
    assert index.search(np.ones((2, 3)), 5).item.tolist() == [[0], [0]]
    assert index.neighbours(5).item.shape == (1, 0)
    assert index.search(np.ones((0, 3)), 5).item.shape == (0, 1)


def test_inverted_lists_reach_the_recall_that_they_report_and_repeat() -> None:
    vectors = clusters(3000)
    index, again = ItemIndex(vectors, exact_below=3000, seed=1), ItemIndex(vectors, exact_below=3000, seed=1)
    assert index.kind == "ivf" and ENOUGH_RECALL <= index.recall <= 1
    found, exact = index.neighbours(10).item, ItemIndex(vectors).neighbours(10).item
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall == pytest.approx(index.recall, abs=0.03)
    assert np.array_equal(found, again.neighbours(10).item) and index.recall == again.recall


def test_lists_are_probed_until_recall_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "ENOUGH_RECALL", 2.0)  # out of reach: all lists are probed
    noise = np.random.default_rng(0).normal(size=(500, 16))
    assert ItemIndex(noise, exact_below=10).recall == 1.0


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clusters(300)
    whole = ItemIndex(vectors).neighbours(4)
    monkeypatch.setattr(retrieval, "BATCH", 37)
    np.testing.assert_allclose(ItemIndex(vectors).neighbours(4).similarity, whole.similarity, atol=1e-6)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="an index needs vectors of items"):
        ItemIndex(np.zeros((0, 4)))
    broken = np.ones((3, 2))
    broken[1] = np.nan
    with pytest.raises(ValueError, match=r"vector 1 is not finite \(1 such vectors\)"):
        ItemIndex(broken)
    index = ItemIndex(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"over vectors of width 2, and the queries have shape \(1, 5\)"):
        index.search(np.ones((1, 5)), 1)
    with pytest.raises(ValueError, match="at least one neighbour must be asked for, not 0"):
        index.search(np.ones((1, 2)), 0)
