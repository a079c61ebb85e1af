"""The transfer ratio and its interval, against resamples that are drawn row by row."""

from __future__ import annotations

import numpy as np
import pytest

from ctr_kd.evaluation.several_seeds import Seeded, measure_seeds
from ctr_kd.evaluation.transfer_ratio import transfer_ratio
from ctr_kd.metrics import auc_score
from ctr_kd.metrics.bootstrap import Bootstrap

ROWS, USERS = 4000, 60
RNG = np.random.default_rng(11)
LOGIT = RNG.normal(size=ROWS)
LABEL = (RNG.random(ROWS) < 1 / (1 + np.exp(-LOGIT))).astype(np.int8)
USER = np.arange(ROWS) % USERS


def scores(noise: float, seed: int) -> np.ndarray:
    return 1 / (1 + np.exp(-(LOGIT + noise * np.random.default_rng(seed).normal(size=ROWS))))


def test_it_is_the_ratio_of_both_differences_on_every_resample() -> None:
    bootstrap = Bootstrap(USER, ROWS, replicates=40, seed=0)
    given = {"teacher": scores(0.2, 1), "student": scores(0.6, 2), "alone": scores(1.2, 3)}
    found = transfer_ratio(*(measure_seeds(LABEL, [[score]], bootstrap)["auc"] for score in given.values()), seed=0)

    def ratio(rows: np.ndarray) -> float:
        teacher, student, alone = (auc_score(LABEL[rows], score[rows]) for score in given.values())
        return (student - alone) / (teacher - alone)

    by_user = [np.flatnonzero(user == USER) for user in range(USERS)]
    resamples = []
    for replicate in range(40):
        counts = bootstrap.resample(replicate).counts
        resamples.append(ratio(np.concatenate([np.tile(rows, count) for rows, count in zip(by_user, counts, strict=True)])))
    assert found.value == pytest.approx(ratio(np.arange(ROWS)))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(resamples, [0.025, 0.975])))
    assert 0 < found.low < found.value < found.high < 1


def seeded(values: list[list[float]], spread: float = 0.0) -> Seeded:
    """By teacher and student seed, with replicates that move all models of a resample together."""
    moved = spread * np.random.default_rng(0).normal(size=200)
    return Seeded(np.array(values), np.array(values)[..., None] + moved)


def test_seeds_are_averaged_before_the_ratio_is_taken() -> None:
    teacher, alone = seeded([[0.80], [0.78]], 0.01), seeded([[0.70, 0.72]], 0.01)
    found = transfer_ratio(teacher, seeded([[0.74, 0.76], [0.73, 0.75]], 0.01), alone, seed=0)
    assert found.value == pytest.approx((0.745 - 0.71) / (0.79 - 0.71))
    # Users move all three alike, so what is left is that of seeds: one of two teachers and one of two student seeds is drawn.
    ends = [(0.74 - 0.70) / 0.10, (0.76 - 0.72) / 0.08, (0.73 - 0.70) / 0.08, (0.75 - 0.72) / 0.06]
    assert (found.low, found.high) == pytest.approx((min(ends), max(ends)))


@pytest.mark.parametrize(("teacher", "spread"), [(0.70, 0.0), (0.69, 0.0), (0.7005, 0.01)])
def test_without_a_lead_above_chance_there_is_none(teacher: float, spread: float) -> None:
    """A teacher whose lead may be nothing makes any ratio: seven thousand per cent is no finding."""
    own = Seeded(np.full((1, 1), teacher), teacher + spread * np.random.default_rng(1).normal(size=(1, 1, 200)))
    found = transfer_ratio(own, seeded([[0.735]]), seeded([[0.70]]), seed=0)
    assert found.value is None and found.low is None
    assert found.reason is not None and found.reason.startswith("the teacher's lead over the student alone, ")


def test_the_few_resamples_without_a_lead_are_left_out() -> None:
    leads = np.full((1, 1, 200), 0.05)
    leads[0, 0, :3] = (0.0, -0.01, 1e-12)
    leads[0, 0, 2] = -1e-12
    teacher = Seeded(np.full((1, 1), 0.75), 0.70 + leads)
    found = transfer_ratio(teacher, seeded([[0.73]]), seeded([[0.70]]), seed=0)
    assert (found.low, found.high) == pytest.approx((0.6, 0.6))
