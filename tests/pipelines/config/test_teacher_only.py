"""What teachers alone may read beside the other keys, and that a run without it is as it was."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.config.run import RunConfig

MINIMAL: dict[str, Any] = {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}}
CAUSAL = {"encoder": {"attention": "causal"}}
BOTH = {"teachers": {"bert": 0.5, "boosted_trees": 0.5}, "weighting": "learned"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"pretrain": CAUSAL}, "teacher_only.future_clicks needs a BERT that reads both ways"),
        ({"pretrain": {"more_encoders": [{"attention": "causal"}]}}, "teacher_only.future_clicks needs a BERT that reads both ways"),
        ({"distill": {"teachers": {"boosted_trees": 1}}}, "teacher_only.future_clicks is of the BERT, and distill.teachers names none"),
        ({"history": {"max_length": 2}}, "teacher_only.future_clicks (3) is above history.max_length (2): lower it"),
        ({"split": {"leave_one_out": True}}, "with split.leave_one_out what comes later is what is tested"),
        ({"distill": BOTH}, "distill.weighting: learned weighs teachers by what students read"),
    ],
)
def test_clicks_of_the_future_need_a_bert_that_reads_both_ways_and_windows_of_time(more: dict[str, Any], expected: str) -> None:
    for future, refused in ((3, True), (0, False)):
        values = {**MINIMAL, **more, "teacher_only": {"future_clicks": future}}
        if refused:
            with pytest.raises(ValidationError) as error:
                RunConfig.model_validate(values)
            assert expected in str(error.value)
        else:
            RunConfig.model_validate(values)


def test_hard_negatives_are_of_requests_and_so_have_later_clicks() -> None:
    config = RunConfig.model_validate({**MINIMAL, "finetune": {"hard_negatives": {"amount": 0.5}}, "teacher_only": {"future_clicks": 3}})
    assert config.teacher_only.future_clicks == 3 and config.finetune.hard_negatives.amount == 0.5


@pytest.mark.parametrize("key", ["distill.transfer", "finetune.hard_negatives"])
def test_rows_that_were_never_shown_have_no_place_on_the_page(key: str) -> None:
    block, _, name = key.partition(".")
    values = {**MINIMAL, block: {name: {"amount": 0.5}}}
    RunConfig.model_validate({**values, "teacher_only": {"statistics": ["item_ctr"]}})
    with pytest.raises(ValidationError, match=f"those of {key}.amount never were: remove one of them"):
        RunConfig.model_validate({**values, "teacher_only": {"context": ["position"]}})


def test_texts_have_no_columns_to_hide() -> None:
    texts = {"name": "demo", "source": {"reader": "text", "train": "a.csv", "test": "b.csv"}, "teacher_only": {"context": ["position"]}}
    with pytest.raises(ValidationError, match="teacher_only names columns of clicks, and texts have none: remove it"):
        RunConfig.model_validate(texts)


def test_without_it_no_stage_has_another_fingerprint() -> None:
    keys = ("seed", "teacher_only", "teacher_only.future_clicks")
    assert RunConfig.model_validate(MINIMAL).section(keys) == {"seed": 0}
    hidden = RunConfig.model_validate({**MINIMAL, "teacher_only": {"context": ["position"]}}).section(keys)
    assert list(hidden) == ["seed", "teacher_only"] and hidden["teacher_only"]["context"] == ["position"]  # the BERT reads the same
    later = RunConfig.model_validate({**MINIMAL, "teacher_only": {"future_clicks": 2}}).section(keys)
    assert list(later) == list(keys) and later["teacher_only.future_clicks"] == 2
