"""Typed settings of one training loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from feature_store.config_types import AUTO, OR_AUTO, Config, is_auto

Device = Literal["auto", "cpu", "cuda"]


class TrainingConfig(Config):
    """One training loop. Nothing is fitted on validation but when it ends, and the choice of the weights that are kept, where there is one.

    What is ``auto`` the log decides: see :mod:`ctr_kd.budgets`.
    """

    epochs: Annotated[float, Field(gt=0), *OR_AUTO] = Field(
        2.0, description="passes over the training rows; a fraction is allowed. auto: until validation stops improving, see patience"
    )
    batch_size: Annotated[int, Field(ge=1), *OR_AUTO] = Field(
        2048, description="rows (or sequences, in pretraining) per step; auto: by the number of them"
    )
    learning_rate: Annotated[float, Field(gt=0), *OR_AUTO] = Field(
        1e-3, description="peak rate of AdamW for newly initialised parameters; auto: by the batch"
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the steps over which the rate rises linearly; it then falls to zero along a cosine"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay of matrices outside the embeddings")
    embedding_decay: Annotated[float, Field(ge=0), *OR_AUTO] = Field(
        0.0,
        description="decoupled weight decay of embedding tables: regularises ids; auto: 1 of clicks, less where a high rate is given, "
        "0 of texts and of lazy_ids",
    )
    lazy_ids: bool = Field(
        False,
        description="an id's embedding moves only in steps that read it (lazy Adam), attributes and categories as ever; otherwise momentum "
        "carries a rare id on for some ten steps after each, and it is learned by heart; of pretraining the loss decides",
    )
    unknown_rate: Annotated[float, Field(ge=0, lt=1), *OR_AUTO] = Field(
        0.1,
        description="share of item tokens replaced by the unknown token, which trains its embedding; auto: by how many items are new after "
        "the training window, so that what a model meets often it has learned",
    )
    attribute_rate: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of token attributes and of categories replaced by their feature's unknown token; a new one is rarer than a "
        "new item, and known ones are what a new item is judged by, so it is lower than unknown_rate",
    )
    statistics_rate: float = Field(
        0.02, ge=0, lt=1, description="share of rows whose dense inputs are all hidden, so that null statistics can be scored"
    )
    clip: float = Field(1.0, gt=0, description="largest norm of a step's gradient")
    validations: Annotated[int, Field(ge=1), *OR_AUTO] = Field(
        4, description="how often per training validation is measured; auto: every epoch or so"
    )
    patience: Annotated[Annotated[int, Field(ge=1)] | None, *OR_AUTO] = Field(
        None,
        description="so many validations without a better one end the training: until then the rate is constant after its warm-up, and "
        "from the best weights it falls to zero over half as many steps again; epochs is the most. null: epochs as they are, along a "
        "cosine; auto: null where epochs are given",
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="weights that are kept: best: those that validation prefers; last: those of the last step, for trainings whose "
        "validation is small or measures another thing than what is wanted",
    )
    average: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which weights are averaged (an exponential mean with that memory), as validation measures and "
        "a model keeps them: what single steps at a high rate do by chance cancels out; 0 takes the weights as they are",
    )
    minutes: float | None = Field(
        None, gt=0, description="the training has no more steps than fit into so many minutes, measured in its first steps; null: as many"
    )
    checkpoint_seconds: float = Field(60.0, gt=0, description="seconds between checkpoints from which a killed run continues")
    accumulate: int = Field(
        1, ge=1, description="parts into which a step's batch is split to save memory; several processes split it among themselves as well"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the forward and backward pass, and of what a teacher says of rows, but for its head; parameters and optimizer stay "
        "float32",
    )
    compile: bool = Field(False, description="compile the model (torch.compile): minutes at the start, faster steps")
    device: Device = Field("auto", description="auto: the GPU where there is one")

    @model_validator(mode="after")
    def _decay_reaches_the_ids(self) -> TrainingConfig:
        if self.lazy_ids and self.embedding_decay and not is_auto(self.embedding_decay):
            raise ValueError("embedding_decay is there to regularise ids and does not reach those of lazy_ids: set one of the two")
        return self

    @model_validator(mode="after")
    def _patience_asks_validation(self) -> TrainingConfig:
        other = "keep: last does not heed it" if self.keep == "last" else "average takes the place of its fall" if self.average else None
        if other is not None and self.has_patience:
            raise ValueError(f"patience ends a training by its validation, and {other}: set one of the two")
        return self

    @property
    def has_patience(self) -> bool:
        """Whether validation is to end the training, whatever the log is like."""
        return self.patience is not None and not is_auto(self.patience)


def auto_training(**given: float) -> TrainingConfig:
    """A training loop as long as the log asks for, but for what is given."""
    names = ("epochs", "batch_size", "learning_rate", "embedding_decay", "unknown_rate", "validations", "patience")
    return TrainingConfig(**(dict.fromkeys(names, AUTO) | given))
