"""The same run with some of its keys changed: what an experiment trains beside the configured student."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from pydantic import ValidationError

from ctr_kd.budgets import with_an_end
from ctr_kd.config import Component, DistillConfig
from ctr_kd.training.distill import without_effect
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError

ABLATION: Mapping[Component, Mapping[str, Mapping[str, Any]]] = {
    "soft": {
        "soft targets": {"soft": "soft_targets"},
        "KL divergence": {"soft": "kl"},
        "logit MSE": {"soft": "logit_mse"},
        "listwise alone": {"soft": "none", "listwise": 1.0, "gate": "none"},
    },
    "listwise": {"listwise term": {"listwise": 0.5}, "no listwise term": {"listwise": 0.0}},
    "hints": {
        "hidden-state hint": {"hints.hidden": 1.0},
        "no hidden-state hint": {"hints.hidden": 0.0},
        "relation hint": {"hints.relation": 1.0},
        "no relation hint": {"hints.relation": 0.0},
    },
    "gate": {"label gate": {"gate": "label"}, "no label gate": {"gate": "none"}},
    "schedule": {
        "weight annealed": {"schedule.weight": "annealed"},
        "weight warmed up": {"schedule.weight": "warmup"},
        "weight constant": {"schedule.weight": "constant"},
        "temperature annealed": {"schedule.temperature": "annealed"},
        "temperature constant": {"schedule.temperature": "constant"},
    },
    "embeddings": {"teacher's embeddings": {"embeddings": "teacher"}, "random embeddings": {"embeddings": "random"}},
    "transfer": {
        "transfer set": {"transfer.amount": 0.5},
        "augmented texts": {"transfer.augmentation.amount": 1.0},
        "no transfer set": {"transfer.amount": 0.0, "transfer.augmentation.amount": 0.0},
    },
}
"""Keys of ``distill`` that each variant changes, by the part that it switches on or off."""


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The configuration with other values under some dotted keys.

    Raises
    ------
    ConfigError
        When they do not go with the others; the message says why.
    """
    values = config.model_dump(by_alias=True)
    for key, value in changes.items():
        *blocks, last = key.split(".")
        block = values
        for name in blocks:
            block = block[name]
        block[last] = value
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())) from None


def alone(config: RunConfig) -> RunConfig:
    """The same student on the labels alone: nothing of the teacher, the same training and calibration."""
    own = config.distill
    distill = DistillConfig(student=own.student, training=with_an_end(own), calibration=own.calibration, alpha=1.0)
    return config.model_copy(update={"distill": distill})


def ablation_variants(config: RunConfig) -> tuple[dict[str, RunConfig], dict[str, str]]:
    """What differs from the configured distillation in one part, by title; and the variants that cannot be, with the reason.

    A part that is on is switched off, and the other way round; a variant that equals the configured one, or has another amount of what is
    on, is neither.
    """
    variants, impossible = {}, {}
    for component in config.prove.ablation:
        for title, changes in ABLATION[component].items():
            if not _switches(config.distill, changes):
                continue
            try:
                variants[title] = _variant(config, changes)
            except ConfigError as error:
                impossible[title] = str(error)
    return variants, impossible


def amount_key(config: RunConfig) -> str:
    """Key of ``distill`` that says how large the transfer set is: that of made-up texts where they are configured."""
    return "transfer.augmentation.amount" if config.distill.transfer.augmentation.amount else "transfer.amount"


def by_amount(config: RunConfig) -> dict[float, RunConfig]:
    """The configured distillation with each amount that the proof compares, 0 and the configured one among them; whatever else stays.

    Empty where part ``transfer`` is not in the ablation, nobody teaches, or no other amount can be.
    """
    if "transfer" not in config.prove.ablation or not config.distill.weights[1]:
        return {}
    key = amount_key(config)
    configured = _value(config.distill, key)
    variants = {configured: config}
    for amount in {0.0, *config.prove.amounts} - {configured}:
        try:
            variants[amount] = _variant(config, {key: amount})
        except ConfigError:  # the ablation says why: its own transfer set cannot be either
            return {}
    return dict(sorted(variants.items())) if len(variants) > 1 else {}  # [] and nothing configured


def _variant(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The configuration with other values under some keys of ``distill``; raises ConfigError where they cannot be or change nothing."""
    variant = changed(config, {f"distill.{key}": value for key, value in changes.items()})
    idle = [line for line in without_effect(variant.distill) if line not in without_effect(config.distill)]
    if idle:
        raise ConfigError(idle[0].removeprefix("warning: "))
    return variant


def _value(config: DistillConfig, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


def _switches(config: DistillConfig, changes: Mapping[str, Any]) -> bool:
    """Whether changes turn something on or off, or choose another way; half of an amount is neither."""
    pairs = [(value, _value(config, key)) for key, value in changes.items()]
    return any(value != configured if isinstance(value, str) else bool(value) != bool(configured) for value, configured in pairs)
