"""Whether an earlier run can be continued."""

from types import SimpleNamespace

from pipelines.config.run import RunConfig
from pipelines.training.parents import STAGES, _differences


def manifests_of(config: RunConfig, dropped: str | None = None) -> dict[str, SimpleNamespace]:
    """As of a release whose blocks did not have one of the keys."""
    keys = ("history", "statistics", "embeddings", "teacher_state", "source", "labels", "teacher_only", "pretrain", "finetune")
    section = config.section((*keys, "distill.student"))
    for block in (section["finetune"], section["distill.student"]):
        block.pop(dropped, None)
    return {stage: SimpleNamespace(config=section, inputs={}) for stage in STAGES}


def test_models_of_a_release_that_read_no_order_are_continued_without_it_and_not_with_it() -> None:
    plain = {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}}
    bag = RunConfig.model_validate({**plain, "finetune": {"recency": False}, "distill": {"student": {"recency": False}}})
    order = RunConfig.model_validate(plain)
    lstm = RunConfig.model_validate({**plain, "finetune": {"recency": False}, "distill": {"student": {"kind": "bilstm"}}})
    for config in (bag, order, lstm):
        assert list(_differences(config, manifests_of(config))) == []
    assert list(_differences(bag, manifests_of(bag, "recency"))) == []
    assert list(_differences(lstm, manifests_of(lstm, "recency"))) == []
    assert list(_differences(order, manifests_of(order, "recency"))) == [
        "has another student (distill.student was changed)",
        "has a teacher of another shape (finetune.recency was changed)",
    ]
