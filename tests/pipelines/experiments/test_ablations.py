"""What an ablation trains beside the configured student, and what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.experiments.ablations import ABLATION, ablation_variants, alone, amount_key, by_amount, changed


def configured(config: RunConfig, **distill: Any) -> RunConfig:
    return RunConfig.model_validate(config.model_dump(by_alias=True) | {"distill": distill})


def test_every_part_is_switched_the_other_way(config: RunConfig) -> None:
    variants, impossible = ablation_variants(configured(config, listwise=0.3, gate="label", hints={"hidden": 0.5}))
    assert {"no listwise term", "no label gate", "no hidden-state hint", "relation hint", "teacher's embeddings"} <= set(variants)
    assert not {"soft targets", "label gate", "no relation hint", "random embeddings", "weight constant"} & set(variants)
    assert variants["no label gate"].distill.listwise == 0.3
    assert variants["listwise alone"].distill.listwise == 1
    assert set(impossible) == {"augmented texts"}  # there are none
    assert len(variants) + len(impossible) <= sum(map(len, ABLATION.values()))


def test_what_cannot_be_is_listed_with_its_reason(config: RunConfig) -> None:
    _, impossible = ablation_variants(configured(config, student={"kind": "din"}))
    assert "din reads it anew" in impossible["hidden-state hint"]
    _, impossible = ablation_variants(configured(config, listwise=1.0))
    assert impossible["label gate"] == "gate has no effect: listwise takes all of the weight of soft"
    _, impossible = ablation_variants(configured(config, preset="hinton"))
    assert "preset hinton has soft: soft_targets" in impossible["KL divergence"]


def test_an_ablation_of_some_parts(config: RunConfig) -> None:
    some = changed(config, {"prove.ablation": ["gate"]})
    assert set(ablation_variants(some)[0]) == {"label gate"}
    assert ablation_variants(changed(config, {"prove.ablation": []})) == ({}, {})


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
    variants, _ = ablation_variants(changed(some, {"prove.ablation": ["transfer", "listwise"]}))
    assert set(variants) == {"no transfer set", "no listwise term"}
    off, _ = ablation_variants(changed(config, {"prove.ablation": ["transfer", "listwise"]}))
    assert set(off) == {"transfer set", "listwise term"}


def test_the_amounts_are_none_the_configured_one_and_those_asked_for(config: RunConfig) -> None:
    some = changed(configured(config, transfer={"amount": 2.0}, listwise=0.1), {"prove.amounts": [1.0, 0.5]})
    found = by_amount(some)
    assert list(found) == [0.0, 0.5, 1.0, 2.0] and found[2.0] is some
    assert [one.distill.transfer.amount for one in found.values()] == list(found)
    assert all(one.distill.listwise == 0.1 for one in found.values())
    assert list(by_amount(changed(config, {"prove.amounts": [0.5]}))) == [0.0, 0.5]
    assert found[0.0].distill == ablation_variants(some)[0]["no transfer set"].distill  # one student, not two


def test_no_amounts_where_there_is_nothing_to_compare(config: RunConfig) -> None:
    assert by_amount(changed(config, {"prove.ablation": ["gate"]})) == {}
    assert by_amount(changed(config, {"prove.amounts": []})) == {}
    assert by_amount(configured(config, alpha=1.0)) == {}  # the labels alone, whatever the amount
    assert by_amount(configured(config, alpha=1.0, transfer={"amount": 0.5})) == {}
    with pytest.raises(ConfigError, match="less than or equal to 10"):
        changed(config, {"prove.amounts": [11]})


def test_of_texts_the_amount_is_that_of_augmentation() -> None:
    source = {"reader": "text", "train": "a.tsv", "test": "b.tsv", "text": 0, "label": 1}
    plain = RunConfig.model_validate({"name": "texts", "source": source})
    assert by_amount(plain) == {}  # no unlabelled texts to take an amount of
    augmented = RunConfig.model_validate({"name": "texts", "source": source, "distill": {"transfer": {"augmentation": {"amount": 3}}}})
    assert amount_key(augmented) == "transfer.augmentation.amount"
    assert [one.distill.transfer.augmentation.amount for one in by_amount(augmented).values()] == [0.0, 0.5, 1.0, 3.0]
