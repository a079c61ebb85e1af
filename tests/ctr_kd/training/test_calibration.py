"""Calibration: what it finds, that it keeps every ranking, and that the exported student holds it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config import DistillConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly, of_mean_one
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.metrics import auc_score, calibration_ratio, log_loss, of_full_stream
from ctr_kd.models.calibrated import Calibrated, MonotoneLines, Temperature
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.calibration import calibrate, fit_isotonic, fit_temperature
from ctr_kd.training.distill import train_student
from ctr_kd.training.loop import predict
from feature_store.features.summary import ClickSummary
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import raw_frame, write_assembly

WAYS = ("temperature", "isotonic")


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, np.float64)))


@pytest.fixture
def rows():
    """Logits that are too sure and too high, of 20,000 rows whose true log odds are 0.6 z - 0.3."""
    rng = np.random.default_rng(0)
    logit = rng.normal(-1, 1.5, 20_000).astype(np.float32)
    return logit, (rng.random(len(logit)) < sigmoid(0.6 * logit - 0.3)).astype(np.float32)


@pytest.fixture
def student(signature):
    torch.manual_seed(3)
    return STUDENTS["pooled"](signature, StudentConfig(width=8, hidden=12)).eval()


def test_golden_values():
    lines = MonotoneLines(np.array([-1.0, 0.0, 2.0]), np.array([-3.0, -1.0, 0.0]))
    given = torch.tensor([[-2.0], [-1.0], [-0.5], [0.0], [1.0], [2.0], [5.0]])
    assert lines(given)[:, 0].tolist() == [-4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 3.0]
    assert Temperature(0.5, -1.0)(torch.tensor([[2.0], [-4.0]]))[:, 0].tolist() == [0.0, -3.0]


def test_temperature_finds_scale_and_bias_and_is_the_minimum(rows):
    logit, label = rows
    fitted = fit_temperature(logit, label)
    assert float(fitted.scale) == pytest.approx(0.6, abs=0.03) and float(fitted.bias) == pytest.approx(-0.3, abs=0.03)

    def loss(scale, bias):
        z = scale * logit.astype(np.float64) + bias
        return float((np.logaddexp(0, z) - label * z).mean())

    least = loss(float(fitted.scale), float(fitted.bias))
    assert all(loss(float(fitted.scale) + a, float(fitted.bias) + b) > least for a, b in ((0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)))


def test_separable_rows_have_a_finite_scale():
    fitted = fit_temperature(np.repeat([-1.0, 1.0], 50), np.repeat([0.0, 1.0], 50))
    assert 1 < float(fitted.scale) < 10


def test_isotonic_comes_near_the_true_rates_of_any_rising_shape():
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 2, 40_000).astype(np.float32)
    rate = 0.05 + 0.5 * (logit > 0) * np.clip(logit / 3, 0, 1)
    fitted = fit_isotonic(logit, (rng.random(len(logit)) < rate).astype(np.float32))
    inner = np.abs(logit) < 2
    found = sigmoid(fitted(torch.from_numpy(logit)[:, None])[:, 0].numpy())
    assert np.abs(found - rate)[inner].max() < 0.08 and np.abs(found - rate)[inner].mean() < 0.015


@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic])
def test_no_order_turns_and_auc_stays(fit, rows):
    logit, label = rows
    fitted = fit(logit, label)
    dense = torch.from_numpy(np.sort(np.concatenate([logit * 3, np.linspace(-1, 1, 50_000, dtype=np.float32)])))[:, None]
    assert (fitted(dense)[:, 0].diff() >= 0).all()
    after = fitted(torch.from_numpy(logit)[:, None])[:, 0].numpy()
    assert auc_score(label, after) == pytest.approx(auc_score(label, logit), abs=1e-6)


def test_where_a_higher_logit_is_clicked_less_nothing_is_calibrated(rows, student, assembly):
    logit, label = rows
    assert fit_temperature(-logit, label) is None and fit_isotonic(-logit, label) is None


def test_too_few_clicks_are_said_and_leave_the_student_as_it_is(student, assembly):
    said = []
    validation = assembly.samples("validation")
    validation.label[10:] = 0
    assert calibrate(student, validation, "temperature", said.append) is student
    assert said[0].startswith("warning: not calibrated: ") and "20 of each label are needed" in said[0]
    assert calibrate(student, validation, "none", said.append) is student and len(said) == 1


@pytest.fixture
def calibrated(request, student, assembly):
    validation = assembly.samples("validation")
    order = np.argsort(predict(student, validation)[:, 0])
    validation.label[order] = np.sort(np.random.default_rng(0).random(len(order)) > 0.6)  # higher logits are clicked
    validation.label[order[::5]] = 1 - validation.label[order[::5]]
    return calibrate(student, validation, request.param)


@pytest.mark.parametrize("calibrated", WAYS, indirect=True)
def test_the_exported_student_holds_its_calibration(calibrated, student, assembly, signature, directory, tmp_path):
    assert isinstance(calibrated, Calibrated) and not calibrated.training
    export_student(calibrated, signature, assembly, tmp_path)
    scorer, frame = ClickScorer(tmp_path), raw_frame(directory, "test")
    trained = sigmoid(predict(calibrated, assembly.samples("test"))[:, 0])
    np.testing.assert_allclose(scorer.score(frame), trained, atol=1e-6)
    assert np.abs(trained - sigmoid(predict(student, assembly.samples("test"))[:, 0])).max() > 1e-3
    np.testing.assert_allclose(scorer.score(frame.slice(4, 1)), trained[4:5], atol=1e-6)
    # Down-sampled negatives were so in validation too: their correction comes after the calibration.
    scorer.signature["negative_sampling_rate"] = 0.25
    np.testing.assert_allclose(scorer.score(frame), trained / (trained + (1 - trained) / 0.25), atol=1e-6)


def test_a_student_of_a_thinned_log_knows_the_rates_of_the_full_stream(tmp_path):
    """Of a log that kept a fifth of its rows without a click; the answers are asked for on all rows."""
    whole = write_assembly(tmp_path / "whole", requests=1500)
    thinned = Path(shutil.copytree(whole, tmp_path / "thinned"))
    rows = pq.read_table(whole / "rows.parquet")
    kept = (rows["label"].to_numpy() == 1) | (np.random.default_rng(0).random(rows.num_rows) < 0.2)
    pq.write_table(rows.filter(pa.array(kept)), thinned / "rows.parquet")
    summary = ClickSummary.read(thinned)
    summary.model_copy(update={"negative_sampling_rate": 0.2}).write(thinned)
    assembly, full = Assembly(thinned, 5), Assembly(whole, 5).samples("test")
    training = TrainingConfig(epochs=2, batch_size=128, learning_rate=1e-2)
    config = DistillConfig(student=StudentConfig(kind="pooled", width=8, hidden=12), training=training, alpha=1.0)
    model, _ = train_student(rows_of(assembly), config, job_at(tmp_path / "c.pt"), teacher=None, encoder=None)
    model = calibrate(model, assembly.samples("validation"), "temperature")
    export_student(model, assembly.signature(), assembly, tmp_path / "export")
    score = ClickScorer(tmp_path / "export").score(raw_frame(whole, "test"))
    assert calibration_ratio(full.label, score) == pytest.approx(1, abs=0.1)
    trained = sigmoid(predict(model, full)[:, 0])
    assert calibration_ratio(full.label, trained) > 1.4  # what is said of the rows that were kept
    np.testing.assert_allclose(score, of_full_stream(trained, 0.2), atol=1e-6)
    # The rows that were kept say the same of it.
    part = assembly.samples("test")
    weighed = EvaluationRows(part.label, negative_sampling_rate=0.2)
    found = of_full_stream(sigmoid(predict(model, part)[:, 0]), weighed.negative_sampling_rate)
    assert calibration_ratio(part.label, found, weighed.weight) == pytest.approx(calibration_ratio(full.label, score), abs=0.1)


def test_a_student_of_a_log_that_was_thinned_by_several_rates_knows_them_all_without_a_correction(tmp_path):
    """Of some devices a tenth of the rows without a click was kept, of others one half; no rate is known of a row that is scored."""
    whole = write_assembly(tmp_path / "whole", requests=3000, users=200)
    thinned = Path(shutil.copytree(whole, tmp_path / "thinned"))
    rows = pq.read_table(whole / "rows.parquet")
    device, clicked = rows["device"].fill_null("d0").to_numpy(zero_copy_only=False), rows["label"].to_numpy() == 1
    rate = np.where(np.isin(device, ["d1", "d3"]), 0.1, 0.5)
    kept = clicked | (np.random.default_rng(0).random(rows.num_rows) < rate)
    rows = rows.append_column("row_weight", pa.array(np.where(clicked, 1.0, 1 / rate)))
    pq.write_table(rows.filter(pa.array(kept)), thinned / "rows.parquet")
    ClickSummary.read(thinned).model_copy(update={"weighted": True}).write(thinned)
    assembly, full = Assembly(thinned, 5), Assembly(whole, 5).samples("test")
    training = TrainingConfig(epochs=3, batch_size=128, learning_rate=1e-2)
    config = DistillConfig(student=StudentConfig(kind="pooled", width=8, hidden=12), training=training, alpha=1.0)
    model, _ = train_student(rows_of(assembly), config, job_at(tmp_path / "c.pt"), teacher=None, encoder=None)
    model = calibrate(model, assembly.samples("validation"), "temperature")
    export_student(model, assembly.signature(), assembly, tmp_path / "export")
    scorer, part = ClickScorer(tmp_path / "export"), assembly.samples("test")
    score = scorer.score(raw_frame(whole, "test"))
    assert scorer.signature["negative_sampling_rate"] is None
    assert calibration_ratio(full.label, score) == pytest.approx(1, abs=0.1)
    by_device = pq.read_table(whole / "rows.parquet", filters=[("split", "=", "test")])["device"].fill_null("d0").to_pylist()
    for names in (["d1", "d3"], ["d0", "d2"]):
        here = np.isin(by_device, names)
        assert calibration_ratio(full.label[here], score[here]) == pytest.approx(1, abs=0.15)
    # The rows that were kept say the same of it, by their weights: its calibration, its loss, and its ranking.
    found = sigmoid(predict(model, part)[:, 0])
    assert calibration_ratio(part.label, found, part.weight) == pytest.approx(calibration_ratio(full.label, score), abs=0.1)
    assert calibration_ratio(part.label, found) < 0.75  # of the rows that were kept, which is no question of anybody's
    assert log_loss(part.label, found, part.weight) == pytest.approx(log_loss(full.label, score), abs=0.03)
    assert auc_score(part.label, found, part.weight) == pytest.approx(auc_score(full.label, score), abs=0.03)


class Classes(torch.nn.Module):
    """Three logits per row, drawn by its position in the batch plan: the first is three times too sure of class 0 or 1."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, *inputs):
        return self.logits[: len(inputs[3])]


def test_a_line_is_of_clicks_alone(assembly):
    with pytest.raises(ValueError, match=r"isotonic calibration is of click logits, and the model has 3 outputs"):
        calibrate(Classes(torch.zeros(5000, 3)), assembly.samples("validation"), "isotonic")


def test_classes_are_scaled_alike(assembly):
    samples = assembly.samples("train")
    samples = replace(samples, label=np.tile([0.0, 0.0, 0.0, 1.0], len(samples))[: len(samples)].astype(np.float32))
    model = Classes(torch.tensor([4.0, 0.0, -40.0]).repeat(5000, 1))
    got = predict(calibrate(model, samples, "temperature"), samples)
    rate = (samples.label == 1).mean()
    assert got[0, 0] - got[0, 1] == pytest.approx(np.log((1 - rate) / rate), abs=1e-3)
    assert got[0, 0] - got[0, 2] == pytest.approx(11 * (got[0, 0] - got[0, 1]), rel=1e-5)


@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic])
def test_calibration_by_weighted_rows_is_that_of_repeated_ones(fit, rows):
    logit, label = rows
    times = 1 + (np.arange(len(logit)) % 3)
    weighted, repeated = fit(logit, label, of_mean_one(times)), fit(np.repeat(logit, times), np.repeat(label, times))
    plain, ones = fit(logit, label), fit(logit, label, np.ones(len(logit), np.float32))
    at = torch.linspace(-4, 3, 50)[:, None]
    torch.testing.assert_close(weighted(at), repeated(at), atol=0.25 if fit is fit_isotonic else 1e-3, rtol=0)  # bins are cut elsewhere
    torch.testing.assert_close(ones(at), plain(at), atol=1e-4, rtol=0)


def test_rows_that_weigh_nothing_calibrate_nothing(student, assembly):
    validation = assembly.samples("validation")
    label = (np.random.default_rng(0).random(len(validation)) < sigmoid(predict(student, validation)[:, 0])).astype(np.float32)
    counted = np.arange(len(validation)) >= 3
    said: list[str] = []
    for how in WAYS:
        whole = replace(validation, label=np.where(counted, label, 1 - label), weight=counted.astype(np.float32))
        lie = replace(whole, label=label)
        one, other = (calibrate(student, rows, how, said.append) for rows in (whole, lie))
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
