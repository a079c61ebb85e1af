"""Stages of a run that continues another: what they begin with, how fast they learn, and that their fingerprints know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from feature_store.special_tokens import SPECIALS
from feature_store.tables.json_files import digest_of, load_json
from pipelines.config.run import RunConfig
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.parent import Parent, parent_of

if TYPE_CHECKING:
    from ctr_kd.training.warm_start import EarlierModel

VOCABULARY = "vocabulary.json"


def from_parent(stage: str) -> Callable[[RunContext], dict[str, str]]:
    """What a stage reads from outside where its run continues another: that one's artifact of the same stage, and how it is continued."""

    def outside(run: RunContext) -> dict[str, str]:
        parent = parent_of(run.artifacts["ingest"].path)
        if parent is None:
            return {}
        return {**parent.input(stage), "warm": digest_of([run.config.warm.learning_rate, run.config.warm.replay])}

    return outside


def parent_of_stage(context: StageContext) -> Parent | None:
    """The run that the run of a stage continues; None where it began anew."""
    return parent_of(context.inputs["ingest"])


def config_of(context: StageContext) -> RunConfig:
    """The configuration that a stage trains by: of a run that continues another, with its lower learning rates."""
    config = context.config
    if parent_of_stage(context) is None:
        return config
    slower = {}
    for name in ("pretrain", "finetune", "distill"):
        block = getattr(config, name)
        rate = block.training.learning_rate * config.warm.learning_rate
        slower[name] = block.model_copy(update={"training": block.training.model_copy(update={"learning_rate": rate})})
    return config.model_copy(update=slower)


def earlier_model(context: StageContext, stage: str, file: str) -> EarlierModel | None:
    """The model that a training continues with, by its file in the parent's artifact of a stage; None where the run began anew."""
    from ctr_kd.training.warm_start import EarlierModel, earlier_weights

    parent = parent_of_stage(context)
    if parent is None:
        return None
    folder = parent.folder(context.workspace, stage)
    before, now = (load_json(ingest / VOCABULARY) for ingest in (parent.folder(context.workspace, "ingest"), context.inputs["ingest"]))
    growth = {(len(before[name]) + len(SPECIALS), len(now[name]) + len(SPECIALS)) for name in now if name in before}
    return EarlierModel(earlier_weights(folder / file, folder.name), growth)
