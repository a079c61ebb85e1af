"""Means and differences over seeds: paired by seed and resample, with intervals of users, teacher seeds and student seeds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ctr_kd.evaluation.several_seeds import BySeed, Seeded, measure_seeds, seed_differences, seed_means
from ctr_kd.metrics import UndefinedMetric, auc_score, log_loss
from ctr_kd.metrics.bootstrap import Bootstrap, over_seeds, paired_difference, percentile_interval

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
    first, second = (measure_seeds(label, [scored], bootstrap) for scored in (one, two))
    entry = seed_means(first, 0)
    assert entry["auc"].by_seed.seeds == pytest.approx([auc_score(label, score) for score in one])
    assert entry["auc"].value == pytest.approx(np.mean(entry["auc"].by_seed.seeds))
    assert entry["log_loss"].value == pytest.approx(np.mean([log_loss(label, score) for score in one]))
    found = seed_differences(first, second, 0)["auc"]
    assert found.by_seed.seeds == pytest.approx([auc_score(label, a) - auc_score(label, b) for a, b in zip(one, two, strict=True)])
    assert found.difference == pytest.approx(np.mean(found.by_seed.seeds))
    assert found.low < found.difference < found.high and found.low > 0


def test_of_classes_accuracy_is_measured_beside():
    rng = np.random.default_rng(0)
    label, scored = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), (2, 300))
    bootstrap = Bootstrap(None, 300, replicates=50)
    entry = seed_means(measure_seeds(label, [list(scored)], bootstrap), 0)
    assert entry["accuracy"].by_seed.seeds == pytest.approx([(score.argmax(1) == label).mean() for score in scored])
    assert set(entry) == {"auc", "log_loss", "accuracy"}


def test_one_label_alone_is_undefined(rows):
    _, bootstrap = rows
    with pytest.raises(UndefinedMetric):
        measure_seeds(np.zeros(600, np.int8), [[np.full(600, 0.5)]], bootstrap)


def test_a_model_without_seeds_is_compared_with_every_seed(rows):
    label, bootstrap = rows
    teacher = measure_seeds(label, [scores(label, 1.0, 1.0, 1)[:1]], bootstrap)
    student = measure_seeds(label, [scores(label, 0.5, 1.0, 2)], bootstrap)
    found = seed_differences(student, teacher, 0)["auc"]
    assert len(found.by_seed.seeds) == SEEDS and found.difference == pytest.approx(np.mean(found.by_seed.seeds))


def test_equal_models_do_not_differ_at_all(rows):
    label, bootstrap = rows
    one = measure_seeds(label, [scores(label, 1.0, 1.0, 1)], bootstrap)
    found = seed_differences(one, one, 0)["auc"]
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


class TestOneTeacher:
    """With one teacher all figures are those of a resampling of users and student seeds alone."""

    @staticmethod
    def over_student_seeds(replicates, seed):
        """The resampling as it was before there were several teachers."""
        seeds, resamples = replicates.shape
        drawn = np.random.default_rng((seed, seeds)).integers(0, seeds, (max(1, seeds - 1), resamples))
        return np.take_along_axis(replicates, drawn, axis=0).mean(axis=0)

    @given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 5), st.integers(0, 999))
    @settings(max_examples=60, deadline=None)
    def test_the_figures_are_the_same_to_the_last_bit(self, seeds, resamples, seed, drawn):
        rng = np.random.default_rng(drawn)
        value, replicates = rng.random(seeds), rng.random((seeds, resamples))
        other_value, other = rng.random(seeds), rng.random((seeds, resamples))
        one, two = Seeded(value[None], replicates[None]), Seeded(other_value[None], other[None])
        mean = seed_means({"auc": one}, seed)["auc"]
        expected = percentile_interval(float(value.mean()), self.over_student_seeds(replicates, seed))
        assert (mean.value, mean.low, mean.high) == (expected.value, expected.low, expected.high)
        assert (mean.by_seed.seeds, mean.by_seed.teachers_std) == (value.tolist(), None)
        found = seed_differences({"auc": one}, {"auc": two}, seed)["auc"]
        differences, by_resample = value - other_value, self.over_student_seeds(replicates - other, seed)
        before = paired_difference(float(differences.mean()), 0.0, by_resample, np.zeros_like(by_resample))
        assert (found.difference, found.low, found.high, found.p_value) == (before.difference, before.low, before.high, before.p_value)
        assert found.by_seed.seeds == differences.tolist()


class TestSeveralTeachers:
    def test_a_literal_case(self):
        """Two teachers with two students each, and users all alike: a resample is one teacher with one of its students."""
        replicates = np.repeat([[[0.0], [1.0]], [[10.0], [11.0]]], 4000, axis=2)
        values, times = np.unique(over_seeds(replicates), return_counts=True)
        assert values.tolist() == [0, 1, 10, 11] and times.min() > 900  # as many teachers as students are not drawn in step
        by_seed = BySeed.of(np.array([[0.0, 1.0], [10.0, 11.0]]))
        assert (by_seed.seeds, by_seed.teachers) == ([5.0, 6.0], [0.5, 10.5])
        assert by_seed.teachers_std == pytest.approx(np.sqrt(50))
        assert by_seed.by_teacher == [[0.0, 1.0], [10.0, 11.0]]

    @given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5), st.data())
    @settings(max_examples=60, deadline=None)
    def test_it_is_the_mean_of_the_drawn_teachers_with_the_drawn_students(self, teachers, students, resamples, seed, data):
        replicates = data.draw(arrays(float, (teachers, students, resamples), elements=st.floats(-1, 1)))
        of_student = np.random.default_rng((seed, students)).integers(0, students, (max(1, students - 1), resamples))
        of_teacher = np.random.default_rng((seed, teachers, 1)).integers(0, teachers, (max(1, teachers - 1), resamples))
        expected = []
        for b in range(resamples):
            drawn = [replicates[t][s][b] for t in of_teacher[:, b] for s in of_student[:, b]]
            expected.append(sum(drawn) / len(drawn))
        assert over_seeds(replicates, seed) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3), (3, 3), (3, 1)])
    def test_its_spread_is_that_of_all_ways_to_draw(self, shape):
        """Against all equally likely draws of one teacher and one student less than there are, counted out."""
        values = np.random.default_rng(0).normal(size=shape)
        ways = [list(itertools.product(range(n), repeat=max(1, n - 1))) for n in shape]
        means = [np.mean([values[t, s] for t in first for s in second]) for first in ways[0] for second in ways[1]]
        drawn = over_seeds(np.repeat(values[:, :, None], 100_000, axis=2))
        assert drawn.mean() == pytest.approx(np.mean(means), abs=0.02)
        assert drawn.std() == pytest.approx(np.std(means), rel=0.02)

    def test_users_teachers_and_students_add_up(self):
        rng = np.random.default_rng(1)
        teachers, students, users = np.array([-2.0, 0.0, 2.0]), np.array([-1.0, 0.0, 1.0]), rng.normal(0, 2.0, 100_000)
        spread = over_seeds(users + teachers[:, None, None] + students[:, None]).var()
        assert spread == pytest.approx(4.0 + 4 / 3 + 1 / 3, rel=0.03)

    def test_a_student_is_compared_with_its_own_teacher_and_with_the_student_alone_of_its_seed(self):
        def seeded(value):
            value = np.array(value)
            return {"auc": Seeded(value, np.repeat(value[:, :, None], 20, axis=2))}

        teacher, student, alone = seeded([[0.8], [0.7]]), seeded([[0.75, 0.76], [0.71, 0.74]]), seeded([[0.70, 0.72]])
        assert seed_differences(student, teacher, 0)["auc"].by_seed.by_teacher == [
            pytest.approx([-0.05, -0.04]),
            pytest.approx([0.01, 0.04]),
        ]
        assert seed_differences(student, alone, 0)["auc"].by_seed.by_teacher == [pytest.approx([0.05, 0.04]), pytest.approx([0.01, 0.02])]
        assert seed_differences(teacher, alone, 0)["auc"].by_seed.by_teacher == [pytest.approx([0.10, 0.08]), pytest.approx([0.0, -0.02])]
        first = {"auc": student["auc"].under_first}
        assert seed_differences(first, alone, 0)["auc"].by_seed.by_teacher == [pytest.approx([0.05, 0.04])]
        entry = seed_means(student, 0)["auc"].to_json()
        assert list(entry) == ["value", "low", "high", "seeds", "teachers", "teachers_std", "by_teacher"]
        assert entry["value"] == pytest.approx(0.74) and entry["teachers"] == pytest.approx([0.755, 0.725])

    def test_teachers_widen_the_interval(self, rows):
        label, bootstrap = rows
        under = [scores(label, lift, 1.0, 1) for lift in (0.4, 1.0, 1.6)]
        alone = measure_seeds(label, [scores(label, 0.3, 1.0, 2)], bootstrap)
        found = [seed_differences(measure_seeds(label, some, bootstrap), alone, 0)["auc"] for some in (under, under[1:2])]
        assert found[0].high - found[0].low > 2 * (found[1].high - found[1].low)


def test_the_spread_of_few_seeds_is_that_of_their_mean():
    """Without noise of users the interval is that of the seeds: the variance of a mean over blocks, not too small for few of them."""
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        values = rng.normal(size=seeds)
        drawn = over_seeds(np.repeat(values[None, :, None], 100_000, axis=2))
        assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
        assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(seeds), rel=0.02)


def test_users_and_seeds_add_up():
    rng = np.random.default_rng(1)
    users, seeds = rng.normal(0, 2.0, 100_000), np.array([-1.0, 0.0, 1.0])
    assert over_seeds(users + seeds[None, :, None]).var() == pytest.approx(4.0 + 1 / 3, rel=0.03)


def test_weighted_rows_count_as_repeated_ones(rows):
    label, bootstrap = rows
    times = np.random.default_rng(0).integers(0, 3, len(label))
    again, scored = np.repeat(np.arange(len(label)), times), scores(label, 1.0, 1.0, 1)
    entry = seed_means(measure_seeds(label, [scored], bootstrap, times / 2, times / 2), 0)
    assert set(entry) == {"auc", "log_loss"}
    assert entry["auc"].by_seed.seeds == pytest.approx([auc_score(label[again], score[again]) for score in scored])
    assert entry["log_loss"].by_seed.seeds == pytest.approx([log_loss(label[again], score[again]) for score in scored])
