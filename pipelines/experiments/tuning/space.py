"""Which values of which keys are tried: what the configuration says, or what matters most about the values that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ctr_kd.config_students import StudentConfig
from ctr_kd.config_teachers import in_short
from ctr_kd.config_training import TrainingConfig
from pipelines.config.run import RunConfig, scalar
from pipelines.config.tune import Dimension
from pipelines.errors import ConfigError
from pipelines.experiments.comparison import learned_changes

Space = Mapping[str, Dimension]

WHERE = "tune.space"
_KINDS = ("pooled", "dcn", "din", "bilstm")
_MIX = {"bert": 0.5, "boosted_trees": 0.5}
_YES_NO = Dimension(choices=[False, True])


def space_of(config: RunConfig) -> Space:
    """What is tried, checked before anything is trained.

    Raises
    ------
    ConfigError
        When a key is none, a value is none of it, the key decides which rows there are, or no student learns from it.
    """
    space = config.tune.space or default_space(config)
    for key, dimension in space.items():
        above = next((other for other in space if key.startswith(f"{other}.")), None)
        if above is not None:
            raise ConfigError(f"{WHERE}: {key} lies in {above}, which is tried as a whole: remove one of them")
        for value in _ends(dimension):
            learned_changes(config, {key: value}, WHERE)
    return space


def default_space(config: RunConfig) -> Space:
    """The keys that matter most, about the values that they have; those that have no effect here, or no other value, are left out.

    Parameters
    ----------
    config : RunConfig
        With numbers in place of ``auto``.

    Examples
    --------
    >>> from pipelines.tasks.log_size import LogSize
    >>> from pipelines.training.budgets import with_numbers
    >>> config = RunConfig.model_validate({"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}})
    >>> config = with_numbers(config, LogSize(rows=80_000, sequences=3000, tokens=12_000))
    >>> space = default_space(config)
    >>> space["pretrain.encoder.width"].choices, space["distill.alpha"].high
    ([32, 64, 128], 0.95)
    >>> alone = config.model_copy(update={"distill": config.distill.model_copy(update={"alpha": 1.0})})
    >>> "distill.alpha" in default_space(alone)
    False
    """
    found = dict(_of_distillation(config))
    if "bert" in config.distill.teacher_weights or config.distill.needs_encoder:
        found = {**dict(_of_teacher(config)), **found}
    if "bert" in config.distill.teacher_weights and config.distill.teacher_weights.keys() <= _MIX.keys() and config.task == "clicks":
        found["distill.teachers"] = _teachers(in_short(config.distill.teachers), config.distill.weighting == "validation")
    return {key: dimension for key, dimension in found.items() if _fits(config, key, dimension)}


def _of_teacher(config: RunConfig) -> Iterator[tuple[str, Dimension]]:
    pretrain, finetune = config.pretrain, config.finetune
    if pretrain.checkpoint is None:
        width, layers = pretrain.encoder.width, pretrain.encoder.layers
        yield "pretrain.encoder.width", Dimension(choices=[width // 2, width, width * 2])
        yield "pretrain.encoder.layers", Dimension(choices=sorted({max(1, layers - 1), layers, layers + 1}))
        yield from _epochs("pretrain", pretrain.training, 2)
        yield "pretrain.training.learning_rate", _about(pretrain.training.learning_rate, 3)
        if pretrain.encoder.attention == "bidirectional":
            yield "pretrain.mask_rate", Dimension(low=0.1, high=0.5)
    if finetune.strategy == "next_segment":
        return
    if finetune.strategy != "from_scratch" and finetune.encoder_learning_rate is not None:
        yield "finetune.encoder_learning_rate", _about(finetune.encoder_learning_rate, 3)
    elif finetune.strategy != "from_scratch":
        yield "finetune.rate_ratio", Dimension(low=finetune.rate_ratio / 10, high=min(1.0, finetune.rate_ratio * 10), log=True)
    yield from _epochs("finetune", finetune.training, 2)
    yield "finetune.training.learning_rate", _about(finetune.training.learning_rate, 3)
    yield "finetune.training.unknown_rate", Dimension(low=0.0, high=0.5)
    if config.task == "clicks":
        yield "finetune.recency", _YES_NO


def _teachers(configured: Any, weighed: bool) -> Dimension:
    """Whatever is configured, the BERT alone and with trees: as many as itself, and few where validation does not weigh them anyway."""
    mixes = [configured, {"bert": 1.0}, _MIX, *([] if weighed else [{"bert": 0.75, "boosted_trees": 0.25}])]
    return Dimension(choices=[mix for number, mix in enumerate(mixes) if mix not in mixes[:number]])


def _of_distillation(config: RunConfig) -> Iterator[tuple[str, Dimension]]:
    distill = config.distill
    if distill.preset == "hinton":
        yield "distill.teacher_weight", _about(distill.teacher_weight, 4)
    elif distill.alpha < 1:
        yield "distill.alpha", Dimension(low=0.05, high=0.95)
    if distill.weights[1] and (distill.soft in ("soft_targets", "kl") or distill.listwise):
        yield "distill.temperature", Dimension(low=1.0, high=8.0, log=True)
    if isinstance(distill.student, StudentConfig):
        kinds = [kind for kind in dict.fromkeys((distill.student.kind, *_KINDS)) if _allowed(config, "distill.student.kind", kind)]
        if len(kinds) > 1:
            yield "distill.student.kind", Dimension(choices=kinds)
        width = distill.student.width
        yield "distill.student.width", Dimension(choices=[max(1, width // 2), width, width * 2])
        if config.task == "clicks":
            yield "distill.student.recency", _YES_NO
    yield from _epochs("distill", distill.training, 3)
    yield "distill.training.learning_rate", _about(distill.training.learning_rate, 3)
    if config.task == "clicks" or config.tokens.student.keep_unknown:
        yield "distill.training.unknown_rate", Dimension(low=0.0, high=0.5)


def _epochs(stage: str, training: TrainingConfig, times: float) -> Iterator[tuple[str, Dimension]]:
    """Other numbers of epochs, where validation does not say when a training ends."""
    if training.patience is None:
        yield f"{stage}.training.epochs", _about(training.epochs, times)


def _about(value: float, times: float) -> Dimension:
    """From a value divided by a factor to the value times it."""
    return Dimension(low=float(f"{value / times:.3g}"), high=float(f"{value * times:.3g}"), log=True)


def _ends(dimension: Dimension) -> list[Any]:
    return [dimension.low, dimension.high] if dimension.choices is None else dimension.choices


def _allowed(config: RunConfig, key: str, value: Any) -> bool:
    try:
        learned_changes(config, {key: value}, WHERE)
    except ConfigError:
        return False
    return True


def _fits(config: RunConfig, key: str, dimension: Dimension) -> bool:
    return dimension.problem() is None and all(_allowed(config, key, value) for value in _ends(dimension))


def configured_value(config: RunConfig, key: str) -> Any:
    """What the configuration has under a dotted key, as plain JSON types; None below a block that is absent."""
    value: Any = config.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def choice_names(dimension: Dimension) -> dict[str, Any]:
    """Choices by their text, which is how a study knows them."""
    return {scalar(value): value for value in dimension.choices or []}


def configured_point(config: RunConfig, space: Space) -> dict[str, float | str]:
    """Where in the space the configuration is as it is, by key; without those whose configured value lies outside."""
    point: dict[str, float | str] = {}
    for key, dimension in space.items():
        value = configured_value(config, key)
        if dimension.choices is not None:
            names = choice_names(dimension)
            same = [name for name, choice in names.items() if choice == value or _is_as_it_is(config, key, choice)]
            point |= {key: same[0]} if same else {}
        elif isinstance(value, (int, float)) and dimension.low is not None and dimension.high is not None:
            whole = not dimension.whole or float(value).is_integer()
            point |= {key: value} if dimension.low <= value <= dimension.high and whole else {}
    return point


def _is_as_it_is(config: RunConfig, key: str, choice: Any) -> bool:
    """Whether a choice, such as a block of which some keys are left out, changes nothing."""
    return learned_changes(config, {key: choice}, WHERE) == config


def is_cheap(key: str) -> bool:
    """Whether trials that differ in this key alone share a teacher, which is the most work of them."""
    return key.startswith("distill.") and not key.startswith(("distill.teachers", "distill.weighting", "distill.held_out"))
