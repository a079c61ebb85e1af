import numpy as np

from ctr_kd.evaluation.pareto import on_frontier


def test_the_frontier_is_what_a_naive_search_finds():
    rng = np.random.default_rng(0)
    quality, cost = rng.integers(0, 6, 40) / 10, rng.integers(0, 6, 40).astype(float)  # with ties
    for i, found in enumerate(on_frontier(quality, cost)):
        beaten = any(
            (quality[j] >= quality[i] and cost[j] < cost[i]) or (quality[j] > quality[i] and cost[j] <= cost[i]) for j in range(40)
        )
        assert found == (not beaten)


def test_what_was_not_measured_is_neither_on_it_nor_in_the_way():
    assert on_frontier([0.9, 0.7, np.nan], [np.nan, 1.0, 0.5]).tolist() == [False, True, False]
