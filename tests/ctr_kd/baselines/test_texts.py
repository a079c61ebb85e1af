"""The linear model of texts."""

import numpy as np
import pytest
from scipy.special import log_softmax

from ctr_kd.baselines.texts import LinearModel
from ctr_kd.config_teachers import TEXT_TEACHERS
from tests.ctr_kd.text_worlds import make_texts


@pytest.mark.parametrize("kind", TEXT_TEACHERS)
@pytest.mark.parametrize("pair", [False, True])
def test_it_learns_and_answers_with_log_probabilities(pair, kind):
    texts, texts_b, label = make_texts(300, 0, pair)
    model = LinearModel.fit(texts[:200], texts_b[:200] if pair else None, label[:200], kind=kind)
    logits = model.predict(texts[200:], texts_b[200:] if pair else None)
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)).sum(1), 1, rtol=1e-5)
    assert (logits.argmax(1) == label[200:]).mean() > (0.45 if pair else 0.6)


def test_its_accuracy_is_told_of_machines_that_saw_neither_a_text_nor_its_equal():
    """Labels that are noise cannot be told out of fold, although every text is there four times with one label, and by heart they can."""
    texts, _, label = make_texts(60, 0)
    label = np.random.default_rng(0).integers(0, 3, 60)
    texts, label = texts * 4, np.tile(label, 4)
    model = LinearModel.fit(texts, None, label)
    assert (model.predict(texts).argmax(1) == label).mean() > 0.95
    assert model.out_of_fold < 0.6


def test_words_stand_beside_ngrams_where_they_are_asked_for():
    texts, label = ["北京 大学", "上海 天气", "北京 天气", "上海 大学"] * 5, np.array([0, 1, 0, 1] * 5)
    wide, narrow = (LinearModel.fit(texts, None, label, kind=kind) for kind in ("linear_words", "linear"))
    assert wide.machine.n_features_in_ == narrow.machine.n_features_in_ + 4
    assert (wide.predict(texts).argmax(1) == label).all()


def test_two_classes_share_a_plane():
    texts, _, label = make_texts(120, 1)
    label = (label == 0).astype(np.int64)
    model = LinearModel.fit(texts, None, label)
    distance = model.machine.decision_function(model.vectorizer.transform(texts))
    expected = log_softmax(model.scale * np.stack([-distance / 2, distance / 2], axis=1), axis=1)
    np.testing.assert_allclose(model.predict(texts), expected, atol=1e-5)


def test_naive_bayes_weighs_a_class_by_what_the_others_lack():
    """Rennie et al. 2003, section 3.1, from counts written out; float64, no library."""
    texts, label = ["aab", "ab", "cc", "cb", "dd"] * 3, np.array([0, 0, 1, 1, 2] * 3)
    model = LinearModel.fit(texts, None, label, kind="naive_bayes")
    inputs = model.vectorizer.transform(texts).toarray()
    expected = np.zeros((len(texts), 3))
    for one in range(3):
        others = inputs[label != one].sum(0) + 0.3
        expected[:, one] = -inputs @ np.log(others / others.sum())
    np.testing.assert_allclose(model.predict(texts), log_softmax(model.scale * expected, axis=1), atol=1e-5)


def test_one_class_is_no_task():
    with pytest.raises(ValueError, match="needs two classes, and all 3 training rows are of one"):
        LinearModel.fit(["a", "b", "c"], None, np.zeros(3, np.int64))
    model = LinearModel.fit(["ab", "b", "c", "ad"], None, np.array([0, 1, 1, 0]))
    assert model.predict([]).shape == (0, 2)
