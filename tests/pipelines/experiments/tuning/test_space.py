"""Which keys are tried by default, where the configuration lies in a space, and which spaces are refused."""

from __future__ import annotations

import pytest

from pipelines.config.run import RunConfig, with_changes
from pipelines.config.tune import Dimension
from pipelines.errors import ConfigError
from pipelines.experiments.tuning.space import configured_point, default_space, is_cheap, space_of
from pipelines.tasks.log_size import LogSize
from pipelines.training.budgets import with_numbers

SIZE = LogSize(rows=80_000, sequences=3000, tokens=12_000)


@pytest.fixture
def config(config: RunConfig) -> RunConfig:
    """The BERT alone teaches, with numbers in place of ``auto``."""
    return with_numbers(with_changes(config, {"distill.teachers": {"bert": 1}}, "test"), SIZE)


def with_space(config: RunConfig, **space: object) -> RunConfig:
    return with_changes(config, {"tune.space": {key.replace("__", "."): value for key, value in space.items()}}, "test")


def test_the_default_holds_the_configured_values_and_what_has_an_effect(config: RunConfig) -> None:
    space = default_space(config)
    assert configured_point(config, space).keys() == space.keys()
    assert {"pretrain.encoder.width", "finetune.rate_ratio", "distill.alpha", "distill.student.kind"} <= space.keys()
    by_rate = with_changes(config, {"finetune.rate_ratio": "auto", "finetune.encoder_learning_rate": 3e-5}, "test")
    assert default_space(by_rate).keys() == space.keys() - {"finetune.rate_ratio"} | {"finetune.encoder_learning_rate"}
    trees = default_space(with_changes(config, {"distill.teachers": {"boosted_trees": 1}}, "test"))
    assert all(is_cheap(key) for key in trees) and trees
    tang = default_space(with_changes(config, {"distill.preset": "tang"}, "test"))
    assert "distill.alpha" in tang and "distill.temperature" not in tang
    hinton = default_space(with_changes(config, {"distill.preset": "hinton"}, "test"))
    assert "distill.alpha" not in hinton and "distill.teacher_weight" in hinton


def test_who_teaches_and_whether_order_counts_are_tried_of_clicks(config: RunConfig) -> None:
    config = with_changes(config, {"distill.weighting": "fixed"}, "test")
    space = default_space(config)
    assert space["distill.teachers"].choices == [{"bert": 1.0}, {"bert": 0.5, "boosted_trees": 0.5}, {"bert": 0.75, "boosted_trees": 0.25}]
    assert space["finetune.recency"].choices == space["distill.student.recency"].choices == [False, True]
    own = with_changes(config, {"distill.teachers": {"bert": 0.9, "boosted_trees": 0.1}}, "test")
    choices = default_space(own)["distill.teachers"].choices or []
    assert choices[0] == {"bert": 0.9, "boosted_trees": 0.1} and len(choices) == 4
    weighed = with_changes(config, {"distill.weighting": "validation", "distill.teachers": {"bert": 0.5, "boosted_trees": 0.5}}, "test")
    assert default_space(weighed)["distill.teachers"].choices == [{"bert": 0.5, "boosted_trees": 0.5}, {"bert": 1.0}]
    texts = load_texts()
    assert not {"distill.teachers", "finetune.recency", "distill.student.recency"} & default_space(texts).keys()
    assert "distill.training.unknown_rate" not in default_space(texts), "its student leaves out what is unknown"


def load_texts() -> RunConfig:
    source = {"reader": "text", "train": "a.tsv", "test": "b.tsv", "text": 0, "label": 1}
    return with_numbers(RunConfig.model_validate({"name": "titles", "source": source}), SIZE)


def test_epochs_are_tried_where_validation_does_not_end_a_training(config: RunConfig) -> None:
    assert "distill.training.epochs" not in default_space(config)
    given = with_numbers(with_changes(config, {"distill.training.epochs": 4, "distill.training.patience": None}, "test"), SIZE)
    assert default_space(given)["distill.training.epochs"].high == 12


def test_a_width_that_its_heads_do_not_divide_is_left_out(config: RunConfig) -> None:
    space = default_space(with_changes(config, {"pretrain.encoder.width": 10, "pretrain.encoder.heads": 2}, "test"))
    assert "pretrain.encoder.width" not in space  # 5 is odd, and too narrow


def test_where_the_configuration_lies(config: RunConfig) -> None:
    changed = with_space(
        config,
        distill__alpha={"low": 0.6, "high": 0.9},
        distill__temperature={"low": 1, "high": 4},
        distill__student__kind={"choices": ["din", "pooled"]},
        distill__hints={"choices": [{}, {"hidden": 0.5}]},
    )
    assert configured_point(changed, space_of(changed)) == {
        "distill.temperature": 2.0,
        "distill.student.kind": "pooled",
        "distill.hints": "{}",
    }


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"distill__alpa": {"low": 0, "high": 1}}, "tune.space: distill.alpa: unknown key"),
        ({"distill__alpha": {"low": 0, "high": 3}}, "distill.alpha: should be less than or equal to 1"),
        ({"seed": {"low": 0, "high": 3}}, "no student learns from seed"),
        ({"source__reader": {"choices": ["mind", "globo"]}}, "source.reader decides which rows are tested"),
        (
            {"distill__student": {"choices": [{"kind": "din"}, {"width": 8}]}, "distill__student__width": {"low": 2, "high": 4}},
            "distill.student.width lies in distill.student",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused(config: RunConfig, space: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        space_of(with_space(config, **space))


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ({"low": 1, "high": 1}, "the range is empty: low (1) must be below high (1)"),
        ({"low": 1}, "write low and high, or choices"),
        ({"low": 0, "high": 1, "log": True}, "log needs a range above 0, and low is 0"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "log and step go together in no range: remove one of them"),
        ({"low": 1, "high": 2, "step": 3}, "the range holds one value: step (3) is longer than it"),
        ({"choices": []}, "choices holds no value, and there is nothing to choose: name two or more"),
        ({"choices": [1, 2, 1]}, "choices holds 1 twice"),
        ({"choices": [1, 2], "low": 1}, "choices stand in place of low, high, log and step: remove one of the two"),
        ({"low": 0.5, "high": 2}, None),
    ],
)
def test_a_dimension_says_why_nothing_can_be_drawn(dimension: dict[str, object], expected: str | None) -> None:
    assert Dimension.model_validate(dimension).problem() == expected
