"""The benchmark of the teachers of texts: which mixtures there are, and what is measured of one."""

from __future__ import annotations

import numpy as np

from benchmarks.bench_text_teachers import measure, mixtures
from ctr_kd.config_teachers import TEXT_TEACHERS


def test_every_set_of_teachers_and_the_configured_one_without_the_bert() -> None:
    found = mixtures({"bert": 0.5, "linear": 0.1, "naive_bayes": 0.4})
    assert len(found) == 2 ** len(TEXT_TEACHERS)
    assert found["as configured"] == {"linear": 0.2, "naive_bayes": 0.8}
    assert found["linear + naive_bayes"] == {"linear": 0.5, "naive_bayes": 0.5}
    assert "as configured" not in mixtures({"bert": 1.0})


def test_a_mixture_is_right_where_its_members_are_together() -> None:
    right, wrong = np.log([[0.9, 0.1]]), np.log([[0.4, 0.6]])
    said = {kind: {"validation": right if kind == "linear" else wrong} for kind in TEXT_TEACHERS}
    found = measure(said, {"validation": np.array([0])}, {})
    assert found["naive_bayes"]["validation"]["accuracy"] == 0.0
    both = found["linear + naive_bayes"]["validation"]
    assert both["accuracy"] == 1.0
    odds = np.sqrt(9 * 4 / 6)  # the geometric mean of both odds
    assert np.isclose(both["log_loss"], np.log(1 + 1 / odds), atol=1e-6)
