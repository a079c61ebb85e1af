"""Means and differences over seeds: paired by seed and resample, with intervals of users and seeds."""

import numpy as np
import pytest

from ctr_kd.evaluation.several_seeds import measure_seeds, seed_differences, seed_means
from ctr_kd.metrics import UndefinedMetric, auc_score, log_loss
from ctr_kd.metrics.bootstrap import Bootstrap, over_seeds

SEEDS = 4


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    label, user = (np.arange(600) % 2).astype(np.int8), rng.integers(0, 60, 600)
    return label, Bootstrap(user, len(label), replicates=200, seed=1)


def scores(label, lift, noise, seed):
    rng = np.random.default_rng(seed)
    return [1 / (1 + np.exp(-(lift * label + rng.normal(0, noise, len(label))))) for _ in range(SEEDS)]


def test_means_and_differences_are_those_of_the_metrics(rows):
    label, bootstrap = rows
    one, two = scores(label, 1.0, 1.0, 1), scores(label, 0.5, 1.0, 2)
    first, second = (measure_seeds(label, given, bootstrap) for given in (one, two))
    entry = seed_means(first, 0)
    assert entry["auc"].seeds == pytest.approx([auc_score(label, score) for score in one])
    assert entry["auc"].value == pytest.approx(np.mean(entry["auc"].seeds))
    assert entry["log_loss"].value == pytest.approx(np.mean([log_loss(label, score) for score in one]))
    found = seed_differences(first, second, 0)["auc"]
    assert found.seeds == pytest.approx([auc_score(label, a) - auc_score(label, b) for a, b in zip(one, two, strict=True)])
    assert found.difference == pytest.approx(np.mean(found.seeds))
    assert found.low < found.difference < found.high and found.low > 0


def test_of_classes_accuracy_is_measured_beside():
    rng = np.random.default_rng(0)
    label, given = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), (2, 300))
    bootstrap = Bootstrap(None, 300, replicates=50)
    entry = seed_means(measure_seeds(label, list(given), bootstrap), 0)
    assert entry["accuracy"].seeds == pytest.approx([(score.argmax(1) == label).mean() for score in given])
    assert set(entry) == {"auc", "log_loss", "accuracy"}


def test_one_label_alone_is_undefined(rows):
    _, bootstrap = rows
    with pytest.raises(UndefinedMetric):
        measure_seeds(np.zeros(600, np.int8), [np.full(600, 0.5)], bootstrap)


def test_a_model_without_seeds_is_compared_with_every_seed(rows):
    label, bootstrap = rows
    teacher = measure_seeds(label, scores(label, 1.0, 1.0, 1)[:1], bootstrap)
    student = measure_seeds(label, scores(label, 0.5, 1.0, 2), bootstrap)
    found = seed_differences(student, teacher, 0)["auc"]
    assert len(found.seeds) == SEEDS and found.difference == pytest.approx(np.mean(found.seeds))


def test_equal_models_do_not_differ_at_all(rows):
    label, bootstrap = rows
    one = measure_seeds(label, scores(label, 1.0, 1.0, 1), bootstrap)
    found = seed_differences(one, one, 0)["auc"]
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_spread_of_few_seeds_is_that_of_their_mean():
    """Without noise of users the interval is that of the seeds: the variance of a mean over blocks, not too small for few of them."""
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        values = rng.normal(size=seeds)
        drawn = over_seeds(np.repeat(values[:, None], 100_000, axis=1))
        assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
        assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(seeds), rel=0.02)


def test_users_and_seeds_add_up():
    rng = np.random.default_rng(1)
    users, seeds = rng.normal(0, 2.0, 100_000), np.array([-1.0, 0.0, 1.0])
    assert over_seeds(users + seeds[:, None]).var() == pytest.approx(4.0 + 1 / 3, rel=0.03)
