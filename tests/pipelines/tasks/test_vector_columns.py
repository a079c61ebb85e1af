"""Columns of vectors for rows with raw ids: whatever kind of ids and lists they have, and nothing that was not known as of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ctr_kd.embeddings.walk import Walk
from feature_store.config import AssemblyConfig, EmbeddingsConfig
from feature_store.features.statistics import AGE, PRODUCT, vector_columns
from pipelines.tasks.embedding_facts import facts_folder
from pipelines.tasks.vector_columns import VectorLookup, _uniform
from tests.ctr_kd.embeddings.click_worlds import HOUR, START, sequences

EMBEDDINGS = EmbeddingsConfig.model_validate({"block": "1h", "width": 8, "negatives": 8})
CONFIG = AssemblyConfig.model_validate({"split": {"fractions": [0.8, 0.1, 0.1]}, "history": {"max_length": 4}, "embeddings": EMBEDDINGS})
LATE = START + 50 * HOUR


@pytest.fixture
def lookup(tmp_path: Path) -> VectorLookup:
    return learned(tmp_path)


def learned(workspace: Path, as_of: int | None = None, config: AssemblyConfig = CONFIG) -> VectorLookup:
    rng = np.random.default_rng(0)
    moments = np.sort(rng.integers(START, LATE, 600)).tolist()
    clicks = sequences([(f"{n % 20}", f"{1 + 2 * rng.integers(0, 5) + n % 2}", moment, moment) for n, moment in enumerate(moments)])
    folder = facts_folder(workspace, EMBEDDINGS, 4)
    Walk(clicks, EMBEDDINGS, 4, folder, LATE, START).learn()
    return VectorLookup(workspace, config, clicks.items, as_of)


def asked(lookup: VectorLookup, items: pa.Array, history: pa.Array, moment: int = LATE, **more: pa.Array) -> pa.Table:
    frame = pa.table({"item_id": items, "history": history, **more})
    return lookup.add(frame, np.full(len(items), moment))


def test_ids_compare_by_their_text_and_lists_by_what_they_hold(lookup: VectorLookup) -> None:
    text = asked(lookup, pa.array(["1", "2"]), pa.array([["3", "4"], ["5"]]))
    assert text[PRODUCT].null_count == 0 and text[AGE].to_pylist() == [0.0, 0.0]
    numbers, lists = pa.array([1, 2]), pa.array([[3, 4], [5]])
    for items in (numbers, numbers.cast(pa.int32()), pa.array([1.0, 2.0])):
        for history in (lists, lists.cast(pa.large_list(pa.int64())), pa.array([["3", "4"], ["5"]], pa.large_list(pa.string()))):
            assert asked(lookup, items, history)[PRODUCT].to_pylist() == text[PRODUCT].to_pylist()


def test_rows_without_a_history_have_an_age_alone(lookup: VectorLookup) -> None:
    for history in (pa.array([[], None], pa.list_(pa.string())), pa.nulls(2)):
        found = asked(lookup, pa.array(["1", None]), history)
        assert found[PRODUCT].to_pylist() == [None, None] and found[AGE].to_pylist() == [0.0, 0.0]


def test_items_that_nobody_knows_are_one(lookup: VectorLookup) -> None:
    found = asked(lookup, pa.array(["new", None, "1"]), pa.array([["3"], ["3"], ["3"]]))[PRODUCT].to_pylist()
    assert found[0] == found[1] != found[2]


def test_columns_that_rows_carry_stay(lookup: VectorLookup) -> None:
    own = pa.array([0.5, None], pa.float32())
    found = asked(lookup, pa.array(["1", "2"]), pa.array([["3"], ["4"]]), **{PRODUCT: own})
    assert found[PRODUCT].to_pylist() == [0.5, None] and found[AGE].null_count == 0


def test_vectors_themselves_are_columns_whose_product_is_the_product(tmp_path: Path) -> None:
    reads_them = CONFIG.model_copy(update={"embeddings": EMBEDDINGS.model_copy(update={"vectors": True})})
    own = pa.array([0.5, None, None], pa.float32())
    rows = pa.array(["1", "new", "2"]), pa.array([["3", "4"], ["5"], []], pa.list_(pa.string()))
    found = asked(learned(tmp_path, config=reads_them), *rows)
    state, item = (np.stack([found[f"embedding_{of}_{n}"].to_numpy() for n in range(8)], 1) for of in ("history", "item"))
    np.testing.assert_allclose((state * item).sum(1)[:2], found[PRODUCT].to_numpy()[:2], atol=2e-3)
    assert np.isnan(state[2]).all() and not np.isnan(item).any()  # no history, but an item
    assert found.column_names[2:] == list(vector_columns(8))
    carried = asked(learned(tmp_path, config=reads_them), *rows, embedding_item_3=own)
    assert carried["embedding_item_3"].to_pylist() == [0.5, None, None] and carried["embedding_item_4"].null_count == 0
    before = asked(learned(tmp_path, config=reads_them), *rows, moment=START - HOUR)
    assert all(before[name].null_count == 3 for name in vector_columns(8))


def test_rows_of_one_moment_and_user_share_a_history(lookup: VectorLookup) -> None:
    users = pa.array(["a", "b", "a"])
    found = asked(lookup, pa.array(["1", "1", "2"]), pa.array([["3"], ["4"], ["3"]]), user_id=users)[PRODUCT].to_pylist()
    alone = [
        asked(lookup, pa.array([item]), pa.array([[click]]))[PRODUCT][0].as_py() for item, click in (("1", "3"), ("1", "4"), ("2", "3"))
    ]
    assert found == pytest.approx(alone, rel=1e-6)


def test_nothing_is_read_that_was_learned_after_the_logical_time(tmp_path: Path) -> None:
    now = START + 20 * HOUR + 123
    later, earlier = learned(tmp_path, now), learned(tmp_path)
    rows = pa.array(["1", "2"]), pa.array([["3", "4"], ["5"]])
    found = asked(later, *rows)
    assert (
        found[PRODUCT].to_pylist() == asked(earlier, *rows, moment=now)[PRODUCT].to_pylist() != asked(earlier, *rows)[PRODUCT].to_pylist()
    )
    assert found[AGE].to_pylist() == [30 * 3600.0] * 2


def test_chances_are_even_and_independent() -> None:
    numbers = np.arange(100_000)
    first, second = (_uniform(numbers, 13, which) for which in range(2))
    assert np.histogram(first, 10, (0, 1))[0].min() > 9_500
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], second[:-1])[0, 1]) < 0.02
    assert (_uniform(numbers, 13, 0) == first).all() and (_uniform(numbers, 14, 0) != first).any()
