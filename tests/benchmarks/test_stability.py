"""What the benchmark says of averaged weights is what a training with ``average`` keeps."""

import copy

import pytest
import torch

from benchmarks.bench_stability import AVERAGES, VALIDATIONS, Measured, kept, measuring
from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.metrics import auc_score
from ctr_kd.training import finetune as finetuning
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import build_encoder
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import write_assembly


def test_one_training_tells_what_each_way_to_keep_its_weights_gives(tmp_path):
    torch.manual_seed(0)
    assembly = Assembly(write_assembly(tmp_path / "assembly"), 5)
    encoder = build_encoder(assembly, assembly.signature(), EncoderConfig(width=16, heads=2, layers=1))
    rows, test = rows_of(assembly), assembly.samples("test")
    training = TrainingConfig(epochs=4, batch_size=32, learning_rate=5e-3, validations=VALIDATIONS)

    def fine_tuned(name, **settings):
        config = FinetuneConfig(head_width=16, training=training.model_copy(update=settings))
        return finetuning.finetune(copy.deepcopy(encoder), rows, config, job_at(tmp_path / f"{name}.pt"), pretraining_rate=5e-3)

    _, curve = fine_tuned("steps")
    points = []
    with measuring(Measured({"validation": rows.validation, "test": test}, None, 1.0), curve.steps, points):
        fine_tuned("measured")
    found = kept(points)
    for share in (0.0, *AVERAGES):
        for keep, way in (("best", f"best of {VALIDATIONS}"), ("last", "last")):
            model, _ = fine_tuned(f"{share} {keep}", average=share, keep=keep)
            figures = found[f"{f'mean of {share:.0%} of the steps' if share else 'as they are'}, {way}"]
            assert figures["test_bert"] == pytest.approx(auc_score(test.label, predict(model, test)[:, 0]), abs=1e-9)
            assert figures["validation_teacher"] == figures["validation_bert"]
