"""What the stages that train found out, in place of a training."""

from __future__ import annotations

from ctr_kd.training.learning_curve import LearningCurve
from pipelines.training.facts import (
    BeforeAndAfter,
    DistillationFacts,
    FinetuningFacts,
    MemberFacts,
    PretrainingFacts,
    StudentFacts,
    TeacherFacts,
    TeachersFacts,
)

CURVE = LearningCurve([{"step": 1, "train_loss": 0.7, "auc": 0.6}], kept_step=1, kept_score=-0.7, steps=1, seconds=0.1)
PRETRAINED = PretrainingFacts(facts={"masked_item_accuracy": 0.2}, parameters=1000, bytes=4000, curve=CURVE, until=None, more_encoders=[])
FINETUNED = FinetuningFacts(
    curve=CURVE,
    auc=0.6,
    members=[MemberFacts(auc=0.6, seconds=0.1, encoder=0)],
    held_out_sequences=3,
    masked_item_accuracy=BeforeAndAfter(before=0.2, after=0.1),
    masked_item_loss=BeforeAndAfter(before=3.0, after=4.0),
    strategy="low_lr",
    rate_ratio=0.01,
    layer_decay=1.0,
    frozen_share=0.5,
    parameters=1000,
    bytes=4000,
    rows_per_second=10.0,
    rows_per_second_alone=5.0,
)
STUDENT = StudentFacts(curve=CURVE, parameters=9, kind="pooled", calibration="none", bytes=36)
DISTILLED = DistillationFacts(
    None, TeachersFacts({"boosted_trees": TeacherFacts(rows_per_second=7.0, library="lightgbm")}), STUDENT, STUDENT
)
