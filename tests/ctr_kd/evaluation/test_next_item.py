"""Next-item evaluation: ranks and metrics by hand, targets and histories against a naive second implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.config import EncoderConfig, NextItemConfig
from ctr_kd.data.samples import Assembly, Segment
from ctr_kd.evaluation import next_item
from ctr_kd.evaluation.next_item import (
    NextItems,
    evaluate_next_items,
    hit_rate_score,
    mrr_score,
    ndcg_score,
    next_item_score,
    next_items,
    target_ranks,
)
from ctr_kd.metrics import UndefinedMetric
from ctr_kd.training.pretrain import build_encoder
from feature_store.config import AssemblyConfig, FeatureStoreConfig, SourceConfig
from feature_store.features.event_log import microseconds
from feature_store.features.training_set import assemble
from feature_store.special_tokens import MASK, SPECIALS, UNKNOWN
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from tests.ctr_kd.worlds import write_assembly

FIRST = len(SPECIALS)
ITEMS = 6  # of the vocabulary, after the special tokens
INCLUDED, EXCLUDED = NextItemConfig(exclude_history=False), NextItemConfig()


def written(targets: list[int], histories: list[list[int]], longest: int = 9) -> NextItems:
    """Items by their number in the vocabulary, -1 for one that is not in it."""
    ids = [FIRST + item if item >= 0 else UNKNOWN for history in histories for item in history]
    length = np.array([len(history) for history in histories])
    stop = np.cumsum(length)
    pool = np.stack([np.array(ids, np.int32), np.zeros(len(ids), np.int32)], axis=1)
    target = np.array([FIRST + item if item >= 0 else UNKNOWN for item in targets], np.int32)
    return NextItems(target, Segment(pool, np.maximum(stop - length, stop - longest), stop, gap_column=-1), stop - length)


def fixed(*scores: float) -> next_item.Score:
    """The same scores for every history; special tokens would win if they were ranked."""
    row = torch.tensor([99.0] * FIRST + list(scores))
    return lambda tokens, length: row.repeat(len(length), 1)


def test_metrics_by_hand() -> None:
    rank = np.array([1, 2, 5, 6, 20, 21, np.inf])
    assert hit_rate_score(rank, 5) == pytest.approx(3 / 7)
    assert hit_rate_score(rank, 20) == pytest.approx(5 / 7)
    assert ndcg_score(rank, 5) == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(6)) / 7)
    assert mrr_score(rank) == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 20 + 1 / 21) / 7)
    for score in (lambda: hit_rate_score(rank[:0], 5), lambda: ndcg_score(rank[:0], 5), lambda: mrr_score(rank[:0])):
        with pytest.raises(UndefinedMetric, match="no user clicked in the window"):
            score()


def test_ranks_by_hand() -> None:
    items = written([0, 3, 3, -1, 1], [[1, 2], [0, 1], [3, 5], [0], []])
    score = fixed(0.1, 0.9, 0.8, 0.7, 0.6, 0.5)
    assert target_ranks(score, items, FIRST + ITEMS, INCLUDED).tolist() == [6, 3, 3, np.inf, 1]
    # the clicked items are out of the way; a target that was clicked before is out as well
    assert target_ranks(score, items, FIRST + ITEMS, EXCLUDED).tolist() == [4, 2, np.inf, np.inf, 1]


def test_equal_scores_put_the_target_last() -> None:
    items = written([0, 4], [[1], [1, 2]])
    assert target_ranks(fixed(*[0.5] * ITEMS), items, FIRST + ITEMS, EXCLUDED).tolist() == [5, 4]
    assert target_ranks(fixed(0.5, 0.5, 0.9, 0.1, 0.5, 0.1), items, FIRST + ITEMS, INCLUDED).tolist() == [4, 4]


def test_the_whole_history_is_excluded_though_the_model_sees_its_end() -> None:
    seen: list[list[int]] = []

    def score(tokens: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        seen.append(tokens[0, :, 0].tolist())
        return fixed(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)(tokens, length)

    assert target_ranks(score, written([5], [[0, 1, 2, 3]], longest=2), FIRST + ITEMS, EXCLUDED).tolist() == [2]
    assert seen == [[FIRST + 2, FIRST + 3]]


def test_scores_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="not numbers: its training diverged"):
        target_ranks(fixed(0.1, float("nan"), *[0.0] * 4), written([0], [[2]]), FIRST + ITEMS, EXCLUDED)


def test_figures_count_what_can_only_be_missed() -> None:
    items = written([0, 3, -1, 1], [[1, 2], [3, 5], [0], []])
    figures = evaluate_next_items(fixed(0.1, 0.9, 0.8, 0.7, 0.6, 0.5), items, FIRST + ITEMS, EXCLUDED)
    assert {name: figures[name] for name in ("users", "unknown_targets", "excluded_targets", "empty_histories", "items")} == {
        "users": 4,
        "unknown_targets": 1,
        "excluded_targets": 1,
        "empty_histories": 1,
        "items": ITEMS,
    }
    assert (figures["hr@5"], figures["hr@20"], figures["mrr"]) == (0.5, 0.5, (1 / 4 + 1) / 4)
    assert figures["ndcg@10"] == pytest.approx((1 / np.log2(5) + 1) / 4)


user = st.tuples(st.integers(-1, ITEMS - 1), st.lists(st.integers(-1, ITEMS - 1), max_size=5))


@settings(max_examples=60, deadline=None)
@given(users=st.lists(user, min_size=1, max_size=12), batch=st.integers(1, 5), exclude=st.booleans(), seed=st.integers(0, 99))
def test_ranks_equal_those_of_a_sorted_list_whatever_the_batches(
    users: list[tuple[int, list[int]]], batch: int, exclude: bool, seed: int
) -> None:
    table = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (FIRST + ITEMS, FIRST + ITEMS)).astype(np.float32))  # many ties
    items = written([target for target, _ in users], [history for _, history in users])

    def score(tokens: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        last = tokens[torch.arange(len(length)), (length - 1).clamp(min=0), 0].long()
        return table[last]

    expected = []
    for target, history in users:
        row = table[FIRST + history[-1] if history and history[-1] >= 0 else UNKNOWN if history else 0].tolist()
        ranked = [item for item in range(ITEMS) if not (exclude and item in history)]
        place = sum(row[FIRST + item] >= row[FIRST + target] for item in ranked) if target in ranked else np.inf
        expected.append(place)
    config = NextItemConfig(exclude_history=exclude, batch_size=batch)
    assert target_ranks(score, items, FIRST + ITEMS, config).tolist() == expected


def test_a_large_vocabulary_is_scored_a_few_users_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_item, "MOST_SCORES", 2 * (FIRST + ITEMS))
    sizes = []

    def score(tokens: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        sizes.append(len(length))
        return fixed(*range(ITEMS))(tokens, length)

    target_ranks(score, written([0] * 5, [[1]] * 5), FIRST + ITEMS, EXCLUDED)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_targets_and_histories_equal_the_naive_ones(tmp_path: Path, seed: int) -> None:
    directory = write_assembly(tmp_path, seed=seed)
    clicks = pq.read_table(directory / "clicks.parquet")
    time = clicks["timestamp"].to_numpy()
    late = np.random.default_rng(seed).random(len(time)) < 0.3
    known_at = time + late * 3 * 10**11  # a late click is known later than some that follow it
    pq.write_table(clicks.set_column(3, "known_at", pa.array(known_at)), directory / "clicks.parquet")
    assembly = Assembly(directory, 5)
    start, end, longest = 4 * 10**11, 8 * 10**11, 3
    found = next_items(assembly, start, end, longest)

    rows = clicks.to_pylist()
    expected = []
    for who in sorted({row["user"] for row in rows}):
        mine = [(row, known) for row, known in zip(rows, known_at, strict=True) if row["user"] == who]
        inside = [row for row, _ in mine if start <= row["timestamp"] < end and row["time_known"]]
        if inside:
            now = inside[-1]["timestamp"]
            history = [row["item"] for row, known in mine if row["timestamp"] < now and known < now]
            expected.append((inside[-1]["item"], history))
    assert len(found.target) == len(expected) > 10
    assert any(len(history) > longest for _, history in expected) and late.any()
    for n, (target, history) in enumerate(expected):
        assert found.target[n] == assembly.item_tokens[target, 0]
        whole = found.history.pool[found.begin[n] : found.history.end[n], :-1]
        assert np.array_equal(whole, assembly.item_tokens[history])
        assert found.history.end[n] - found.history.start[n] == min(len(history), longest)


def test_a_window_without_clicks_has_no_targets(assembly: Assembly) -> None:
    items = next_items(assembly, 10**15, 2 * 10**15, 5)
    assert len(items.target) == len(items.history.start) == 0
    with pytest.raises(UndefinedMetric):
        evaluate_next_items(fixed(*range(ITEMS)), items, FIRST + ITEMS, EXCLUDED)


def test_the_encoder_predicts_at_a_mask_behind_the_history(assembly: Assembly) -> None:
    torch.manual_seed(0)
    model = build_encoder(assembly, assembly.signature(), EncoderConfig(width=16, heads=2))
    score = next_item_score(model)
    tokens = torch.tensor([[[6, 5, 0], [7, 6, 2]], [[8, 5, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=torch.int32)
    with torch.no_grad():
        found = score(tokens, torch.tensor([2, 1, 0]))
        alone = torch.tensor([[[8, 5, 0], [MASK, 0, 0]]], dtype=torch.int32)
        expected = model.all_items(model.states(alone, torch.tensor([2]), torch.tensor([1])))
    assert found.shape == (3, len(model.vocabulary)) and not found.isnan().any()
    torch.testing.assert_close(found[1:2], expected)


SEQUENCES = "a 1 2 3 4 10\nb 2 3 1 11 12\nc 1 13\nd 14\ne 3 2 1 2\n"


def test_no_held_out_item_is_in_a_training_sequence_or_in_the_vocabulary(tmp_path: Path) -> None:
    """Items 10 to 14 are clicked as somebody's last or second last item alone."""
    (tmp_path / "Toys.txt").write_text(SEQUENCES)
    store = Store(tmp_path / "store")
    ingest(SourceConfig(reader="s3rec", name="Toys"), tmp_path, store, tmp_path / "failed")
    config = AssemblyConfig.model_validate(
        {"split": {"leave_one_out": True}, "candidates": {"window": "9d"}, "vocabulary": {"min_count": 1}}
    )
    summary = assemble(store, config, FeatureStoreConfig(threads=1), None, tmp_path / "assembly")
    assembly = Assembly(tmp_path / "assembly", 5)
    # counted are 1 2 3 | 2 3 1 | nothing | nothing | 3 2: the most frequent first
    assert assembly.vocabulary["item"] == ["2", "3", "1"]
    until = microseconds(summary.split.train_until)
    training = assembly.sequences(until)
    pieces = [training.pool[s:e, 0].tolist() for s, e in zip(training.start, training.end, strict=True)]
    number = {token: FIRST + place for place, token in enumerate(assembly.vocabulary["item"])}
    assert sorted(pieces) == sorted([[number[i] for i in items] for items in (["1", "2", "3"], ["2", "3", "1"], ["3", "2"])])

    test = next_items(assembly, until + 86_400 * 10**6, until + 2 * 86_400 * 10**6, 5)
    assert test.target.tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, number["2"]]
    assert (test.history.end - test.history.start).tolist() == [4, 4, 1, 0, 3]
    validation = next_items(assembly, until, until + 86_400 * 10**6, 5)
    assert validation.target.tolist() == [UNKNOWN, UNKNOWN, number["1"], number["1"]]  # 4, 11, 1 and 1: d has one item only
