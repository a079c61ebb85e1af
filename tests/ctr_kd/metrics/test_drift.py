"""Drift of scores: bins, and the stability index against a second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_kd.metrics.drift import ScoreDistribution, count_by_bin, index_by_chance, population_stability_index


def test_bins_hold_equally_many_scores() -> None:
    score = np.random.default_rng(0).random(1000)
    found = ScoreDistribution.of(score, bins=10)
    assert found.rows.tolist() == [100] * 10
    assert found.edges.tolist() == pytest.approx(np.quantile(score, np.arange(1, 10) / 10).tolist())
    assert ScoreDistribution.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_ties_share_a_bin_and_a_constant_score_has_one_of_its_own() -> None:
    assert ScoreDistribution.of([0.2, 0.2, 0.2, 0.9], bins=4).to_dict() == {"edges": [0.2, 0.375], "rows": [0, 3, 1]}
    constant = ScoreDistribution.of([0.3] * 50)
    assert constant.to_dict() == {"edges": [0.3], "rows": [0, 50]}
    assert population_stability_index(constant.rows, count_by_bin(np.full(50, 0.1), constant.edges)) > 5


@pytest.mark.parametrize(
    "values",
    [
        {"edges": [0.5, 0.2], "rows": [1, 1, 1]},
        {"edges": [0.5], "rows": [1]},
        {"edges": [0.5], "rows": [0, 0]},
        {"edges": [0.5], "rows": [2, -1]},
    ],
    ids=["order", "length", "empty", "negative"],
)
def test_what_is_no_distribution_is_refused(values: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="ascending edges"):
        ScoreDistribution.from_dict(values)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=20).filter(
        lambda pairs: all(map(sum, zip(*pairs, strict=True)))
    )
)
def test_the_index_is_that_of_a_plain_loop_and_symmetric(pairs: list[tuple[int, int]]) -> None:
    before, after = zip(*pairs, strict=True)
    expected = 0.0
    for one, other in pairs:
        p = (one + 0.5) / (sum(before) + 0.5 * len(pairs))
        q = (other + 0.5) / (sum(after) + 0.5 * len(pairs))
        expected += (q - p) * math.log(q / p)
    found = population_stability_index(before, after)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found >= 0
    assert population_stability_index(after, before) == pytest.approx(found, abs=1e-12)


def test_distributions_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="2 and 3 bins"):
        population_stability_index([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="without rows"):
        population_stability_index([1, 1], [0, 0])


@pytest.mark.parametrize(("before", "after"), [(100, 2000), (500, 500), (5000, 300)])
def test_chance_passes_its_own_index_about_once_in_a_hundred_times_and_a_drift_every_time(before: int, after: int) -> None:
    random, passed = np.random.default_rng(0), 0
    for _ in range(500):
        reference = ScoreDistribution.of(random.random(before))
        observed = count_by_bin(random.random(after), reference.edges)
        passed += population_stability_index(reference.rows, observed) > index_by_chance(reference.rows, observed)
        drifted = count_by_bin(random.random(after) ** 3, reference.edges)
        assert population_stability_index(reference.rows, drifted) > index_by_chance(reference.rows, drifted)
    assert passed <= 15  # of 500: five are expected
