"""Figures on plain arrays are those of the report, and those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ctr_kd import compare, evaluate
from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    label, user = rng.integers(0, 2, 400), rng.integers(0, 20, 400)
    return label, user, {name: (0.3 + 0.2 * label * share + 0.3 * rng.random(400)).clip(0, 1) for name, share in (("a", 1.0), ("b", 0.3))}


def test_figures_are_those_of_another_library_and_of_the_report(scored: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]) -> None:
    label, user, scores = scored
    table = evaluate(label, scores, user=user, replicates=50)
    report = evaluate_models(EvaluationRows(label, user=user), scores, replicates=50)
    for name, score in scores.items():
        assert table.loc[name, "auc"] == pytest.approx(roc_auc_score(label, score))
        assert table.loc[name, "log_loss"] == pytest.approx(log_loss(label, score))
        auc = report.models[name]["auc"]
        assert (table.loc[name, "auc_low"], table.loc[name, "auc_high"]) == (auc.low, auc.high)
    assert evaluate(label.tolist(), scores["a"].tolist(), replicates=5).index.tolist() == ["score"]


def test_a_difference_is_paired(scored: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]) -> None:
    label, user, scores = scored
    table = compare(label, scores["a"], scores["b"], user=user, replicates=50)
    report = evaluate_models(EvaluationRows(label, user=user), scores, replicates=50, pairs=(("a", "b"),)).comparisons["a-b"]["auc"]
    assert table.loc["auc"].tolist() == [report.difference, report.low, report.high, report.p_value]
    assert table.loc["auc", "difference"] == pytest.approx(roc_auc_score(label, scores["a"]) - roc_auc_score(label, scores["b"]))


def test_what_has_no_value_is_nan_and_what_is_wrong_is_named() -> None:
    assert np.isnan(evaluate([1, 1], [0.2, 0.4], replicates=5).loc["score", "auc"])
    with pytest.raises(ValueError, match=r"scores of a: .*probabilities between 0 and 1; row 1 has 3"):
        evaluate([0, 1], {"a": [0.2, 3.0]})
