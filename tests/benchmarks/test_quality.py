import numpy as np
import pytest

from benchmarks.bench_quality import OUR_TRIALS, SETS, compare, rounded, table
from ctr_kd.data.samples import Samples, Segment
from ctr_kd.metrics import auc_score
from pipelines.config.run import RunConfig, load

CONFIG = RunConfig.model_validate(
    {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}, "evaluate": {"bootstrap": 50}}
)


@pytest.fixture
def test_rows() -> Samples:
    rng, rows = np.random.default_rng(0), 200
    tokens = Segment(np.zeros((0, 2), np.int32), np.zeros(rows, np.int64), np.zeros(rows, np.int64))
    nothing = np.zeros((rows, 0), np.float32)
    label = (np.arange(rows) % 2).astype(np.float32)
    return Samples(np.arange(rows), np.arange(rows), rng.integers(0, 40, rows), tokens, tokens, nothing.astype(np.int32), nothing, label)


def test_the_mean_difference_is_that_of_the_seeds_and_has_an_interval_of_its_own(test_rows):
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=(2, len(test_rows))) for _ in range(2)]
    scores = {"student": [test_rows.label + noise[0][i] for i in range(2)], "DIN": [0.2 * test_rows.label + noise[1][i] for i in range(2)]}
    tested = compare(test_rows, scores, [("student", "DIN")], CONFIG)
    found = tested["differences"]["student-DIN"]
    by_hand = [auc_score(test_rows.label, scores["student"][i]) - auc_score(test_rows.label, scores["DIN"][i]) for i in range(2)]
    assert [seed["difference"] for seed in found["seeds"]] == pytest.approx(by_hand)
    assert found["difference"] == pytest.approx(np.mean(by_hand))
    assert found["low"] < found["difference"] < found["high"]
    # Noise of the seeds averages out: the mean's interval is no wider than the widest of them.
    assert found["high"] - found["low"] <= max(seed["high"] - seed["low"] for seed in found["seeds"])
    assert tested["test_auc"]["DIN"]["seeds"] == pytest.approx([auc_score(test_rows.label, score) for score in scores["DIN"]])


def test_the_table_names_every_model_and_difference(test_rows):
    scores = {"teacher": [test_rows.label + 0.1], "DIN": [np.linspace(0, 1, len(test_rows))]}
    tested = rounded(compare(test_rows, scores, [("teacher", "DIN")], CONFIG))
    models = {name: {"validation_auc": [0.5], "test_auc": tested["test_auc"][name]} for name in scores}
    text = table({"configuration": "demo", "test_rows": 200, "seeds": 1, "models": models, "differences": tested["differences"]})
    assert "| teacher | 0.5000 | 1.0000 | 1.0000 - 1.0000 | 1.0000 |" in text
    assert "| teacher - DIN | +0." in text


@pytest.mark.parametrize("conf", SETS.values())
def test_our_trials_differ_and_suit_every_configuration(conf):
    tried = [load(conf, trial).model_dump_json() for trial in OUR_TRIALS]
    assert tried[0] == load(conf).model_dump_json()
    assert len(set(OUR_TRIALS)) == len(OUR_TRIALS) >= 8
    assert len(set(tried)) >= len(tried) - 2  # a configuration may have what a trial sets
