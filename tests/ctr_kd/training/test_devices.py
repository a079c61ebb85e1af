import pytest
import torch

from ctr_kd.config import DistillConfig, EncoderConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.models.students import STUDENTS
from ctr_kd.training import devices
from ctr_kd.training.devices import autocast, choose_device, compiled, device_of, report_what_has_no_effect, to_device
from ctr_kd.training.distill import train_student
from ctr_kd.training.errors import DeviceError
from ctr_kd.training.finetune import finetune
from ctr_kd.training.pretrain import pretrain
from tests.ctr_kd.trainings import job_at, rows_of

CPU = torch.device("cpu")


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(TrainingConfig()) == choose_device(TrainingConfig(device="cpu")) == CPU
    with pytest.raises(DeviceError, match=r"training\.device is cuda.*set it to auto"):
        choose_device(TrainingConfig(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(TrainingConfig(device="cpu"), 1) == CPU
    assert [choose_device(TrainingConfig(), rank) for rank in (0, 1, 2)] == [torch.device("cuda", i) for i in (0, 1, 0)]


def test_moving_to_where_they_are_copies_nothing(assembly):
    from ctr_kd.data.batching import make_batch

    batch = make_batch(assembly.samples("train"), torch.arange(3).numpy())
    moved = to_device(batch, CPU)
    assert type(moved) is type(batch) and all(one is two for one, two in zip(moved, batch, strict=True))


def test_options_without_effect_are_named(monkeypatch):
    monkeypatch.setattr(devices, "_has_compiler", lambda: False)
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: False)
    said: list[str] = []
    report_what_has_no_effect(TrainingConfig(), CPU, said.append)
    assert said == []
    config = TrainingConfig(batch_size=4, accumulate=8, compile=True, precision="bfloat16")
    report_what_has_no_effect(config, CPU, said.append)
    assert [line.split()[1] for line in said] == ["accumulate", "compile", "precision"]
    with compiled(torch.nn.Linear(1, 1), config) as nothing:
        assert nothing is None


def test_a_module_is_compiled_for_the_training_only(monkeypatch):
    calls = []
    module = torch.nn.Linear(2, 1)
    monkeypatch.setattr(devices, "_has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda call, **how: lambda *inputs: calls.append(how) or call(*inputs))
    with compiled(module, TrainingConfig(compile=True)):
        module(torch.ones(1, 2))
    with compiled(module, TrainingConfig()):
        module(torch.ones(1, 2))
    module(torch.ones(1, 2))
    assert calls == [{"dynamic": True}]
    assert list(module.state_dict()) == ["weight", "bias"]


@pytest.mark.skipif(not devices._cpu_computes_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.parametrize("kind", ["pretrain", "finetune", *STUDENTS])
def test_bfloat16_computes_in_it_and_keeps_float32_weights(kind, assembly, tmp_path):
    losses, seen, rows = {}, set(), rows_of(assembly)
    for precision in ("float32", "bfloat16"):
        training = TrainingConfig(epochs=2, batch_size=32, learning_rate=1e-3, validations=1, precision=precision)
        encoder = PretrainConfig(encoder=EncoderConfig(width=16, heads=2, layers=1, dropout=0), training=training, next_segment=0.5)
        job = job_at(tmp_path / f"{precision}.pt")
        if kind in STUDENTS:
            student = DistillConfig(student=StudentConfig(kind=kind, width=8, hidden=8, dropout=0), training=training)
            model, curve = train_student(rows, student, job)
        else:
            model, curve, _ = pretrain(assembly, encoder, job)
        if kind == "finetune":
            job = job_at(tmp_path / f"{precision}2.pt")
            model, curve = finetune(model, rows, FinetuneConfig(training=training), job, pretraining_rate=1e-3)
        losses[precision] = curve.points[-1]["train_loss"]
        seen |= {value.dtype for value in model.state_dict().values() if value.is_floating_point()}
        assert device_of(model) == CPU
    assert seen == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02) and losses["bfloat16"] != losses["float32"]


@pytest.mark.parametrize("there", [True, False])
def test_autocast_is_on_where_it_is_configured_and_the_processor_has_bfloat16(there, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: there)
    with autocast(TrainingConfig(), CPU):
        assert not torch.is_autocast_enabled("cpu")
    with autocast(TrainingConfig(precision="bfloat16"), CPU):
        assert torch.is_autocast_enabled("cpu") == there


def test_a_processor_without_bfloat16_trains_as_in_float32(assembly, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: False)
    weights = []
    for precision in ("float32", "bfloat16"):
        training = TrainingConfig(epochs=1, batch_size=32, learning_rate=1e-3, validations=1, precision=precision)
        student = DistillConfig(student=StudentConfig(kind="bilstm", width=8, hidden=8, dropout=0), training=training)
        weights.append(train_student(rows_of(assembly), student, job_at(tmp_path / f"{precision}.pt"))[0].state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
