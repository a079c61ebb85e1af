"""What an ablation trains beside the configured student, and what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import ConfigError, RunConfig
from pipelines.variants import ABLATION, ablation, alone, changed


def configured(config: RunConfig, **distill: Any) -> RunConfig:
    return RunConfig.model_validate(config.model_dump(by_alias=True) | {"distill": distill})


def test_every_part_is_switched_the_other_way(config: RunConfig) -> None:
    variants, impossible = ablation(configured(config, listwise=0.3, gate="label", hints={"hidden": 0.5}))
    assert {"no listwise term", "no label gate", "no hidden-state hint", "relation hint", "teacher's embeddings"} <= set(variants)
    assert not {"soft targets", "label gate", "no relation hint", "random embeddings", "weight constant"} & set(variants)
    assert variants["no label gate"].distill.listwise == 0.3
    assert variants["listwise alone"].distill.listwise == 1
    assert set(impossible) == {"augmented texts"}  # there are none
    assert len(variants) + len(impossible) <= sum(map(len, ABLATION.values()))


def test_what_cannot_be_is_listed_with_its_reason(config: RunConfig) -> None:
    _, impossible = ablation(configured(config, student={"kind": "din"}))
    assert "din reads it anew" in impossible["hidden-state hint"]
    _, impossible = ablation(configured(config, listwise=1.0))
    assert impossible["label gate"] == "gate has no effect: listwise takes all of the weight of soft"
    _, impossible = ablation(configured(config, preset="hinton"))
    assert "preset hinton has soft: soft_targets" in impossible["KL divergence"]


def test_an_ablation_of_some_parts(config: RunConfig) -> None:
    some = changed(config, {"prove.ablation": ["gate"]})
    assert set(ablation(some)[0]) == {"label gate"}
    assert ablation(changed(config, {"prove.ablation": []})) == ({}, {})


def test_the_student_alone_has_nothing_of_the_teacher(config: RunConfig) -> None:
    taught = configured(config, student={"width": 8}, listwise=0.5, embeddings="teacher", calibration="none", alpha=0.1)
    own = alone(taught).distill
    assert (own.alpha, own.listwise, own.embeddings, own.weights, own.needs_encoder) == (1, 0, "random", (1, 0), False)
    assert (own.student, own.training, own.calibration) == (taught.distill.student, taught.distill.training, "none")


def test_a_change_that_contradicts_the_rest_says_why(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="soft targets need a temperature above zero"):
        changed(config, {"distill.temperature": 0})


def test_another_amount_of_what_is_on_is_no_variant(config: RunConfig) -> None:
    some = configured(config, transfer={"amount": 2.0}, listwise=0.1)
    variants, _ = ablation(changed(some, {"prove.ablation": ["transfer", "listwise"]}))
    assert set(variants) == {"no transfer set", "no listwise term"}
    off, _ = ablation(changed(config, {"prove.ablation": ["transfer", "listwise"]}))
    assert set(off) == {"transfer set", "listwise term"}
