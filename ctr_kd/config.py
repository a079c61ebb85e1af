"""Typed settings of learning: the teacher's shape, the students, the objectives and the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from feature_store.config import Config


class TrainingConfig(Config):
    """One training loop. The checkpoint that validation prefers is kept; nothing else is fitted on validation."""

    epochs: float = Field(2.0, gt=0, description="passes over the training rows; a fraction is allowed")
    batch_size: int = Field(2048, ge=1, description="rows (or sequences, in pretraining) per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW for newly initialised parameters")
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the steps over which the rate rises linearly; it then falls to zero along a cosine"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay of matrices outside the embeddings")
    embedding_decay: float = Field(0.0, ge=0, description="decoupled weight decay of embedding tables: regularises ids")
    unknown_rate: float = Field(
        0.1, ge=0, lt=1, description="share of item tokens replaced by the unknown token, which trains its embedding"
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
    validations: int = Field(4, ge=1, description="how often per training validation is measured; the best checkpoint is kept")
    checkpoint_seconds: float = Field(60.0, gt=0, description="seconds between checkpoints from which a killed run continues")
    accumulate: int = Field(
        1, ge=1, description="parts into which a step's batch is split to save memory; several processes split it among themselves as well"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the forward and backward pass; parameters and optimizer stay float32"
    )
    compile: bool = Field(False, description="compile the model (torch.compile): minutes at the start, faster steps")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")


class EncoderConfig(Config):
    """Shape of the BERT encoder (names as in Hugging Face's BertConfig, in the field's short form)."""

    width: int = Field(64, ge=8, description="hidden size")
    layers: int = Field(2, ge=1, description="transformer layers")
    heads: int = Field(2, ge=1, description="attention heads; must divide the width")
    feed_forward: int | None = Field(None, ge=8, description="width of the feed-forward layer; null is four times the width")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of embeddings, attention and hidden states")
    attention: Literal["bidirectional", "causal"] = Field(
        "bidirectional",
        description="bidirectional: hidden items are predicted from both sides (BERT4Rec); "
        "causal: each item from those before it, all positions in one pass (SASRec)",
    )
    positions: Literal["from_end", "from_start"] = Field(
        "from_end", description="from_end: position 0 is the newest token, so recency keeps its meaning; from_start: the first, as in texts"
    )
    norm_epsilon: float = Field(1e-12, gt=0, description="added to the variance in layer normalisation")

    @model_validator(mode="after")
    def _heads_divide(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the width ({self.width})")
        return self


class PretrainConfig(Config):
    encoder: EncoderConfig = Field(EncoderConfig(), description="the teacher's encoder")
    training: TrainingConfig = Field(
        TrainingConfig(epochs=2, batch_size=256, learning_rate=1e-3, unknown_rate=0.02), description="training loop of pretraining"
    )
    clicks: Literal["before_labels", "all"] = Field(
        "before_labels",
        description="sequences end before the fine-tuning labels begin (they stay unseen targets), or run to the end of training; "
        "before_labels has no effect without split.train_from, since the labels then begin with the log",
    )
    mask_rate: float = Field(0.2, gt=0, lt=1, description="share of items that are masked (bidirectional attention; so are the next two)")
    span: float = Field(1.0, ge=1, description="mean length of a masked stretch of items (geometric); 1 masks each item by itself")
    last_item_rate: float = Field(
        0.3, ge=0, le=1, description="share of sequences of which the last item alone is masked: next-item prediction"
    )
    items: Literal["auto", "softmax", "sampled", "gbce"] = Field(
        "auto",
        description="loss over the items: softmax over all; sampled: softmax over shared negatives with the log-Q correction; gbce: "
        "calibrated binary cross entropy over them; auto: softmax up to 20,000 items, else sampled",
    )
    negatives: int = Field(1024, ge=1, description="negatives that a batch shares, of sampled and gbce")
    gbce_calibration: float = Field(
        0.75, ge=0, le=1, description="gbce: t of Petrov and Macdonald (2023); 0 is plain binary cross entropy, 1 predicts probabilities"
    )
    attributes: float = Field(0.0, ge=0, description="weight of predicting the attributes of hidden items; 0 leaves it out")
    next_segment: float = Field(
        0.0, ge=0, description="weight of next-segment prediction (is B the continuation of A's user?); 0 leaves it out"
    )
    validation_share: float = Field(
        0.05, gt=0, lt=0.5, description="share of users whose sequences measure masked-item accuracy instead of training it"
    )


class FinetuneConfig(Config):
    strategy: Literal["low_lr", "freeze", "freeze_then_unfreeze", "from_scratch"] = Field(
        "low_lr",
        description="low_lr: all trains, the pretrained slowly; freeze: new layers alone; freeze_then_unfreeze: first so, then all; "
        "from_scratch: an encoder that was not pretrained, all at the full rate, which shows what pretraining gives",
    )
    rate_ratio: float = Field(
        0.01, gt=0, description="rate of pretrained parameters over the pretraining rate (new layers train at training.learning_rate)"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="rate of a layer over that of the layer above it, embeddings lowest; 1 trains all layers alike"
    )
    frozen_share: float = Field(0.5, gt=0, lt=1, description="freeze_then_unfreeze: share of the steps with a frozen encoder")
    head_width: int = Field(128, ge=4, description="hidden width of the click head")
    head_dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the click head")
    training: TrainingConfig = Field(
        TrainingConfig(epochs=2, batch_size=1024, learning_rate=4e-3, unknown_rate=0.2), description="training loop of fine-tuning"
    )


class StudentConfig(Config):
    kind: Literal["bilstm", "pooled"] = Field(
        "pooled", description="bilstm: one bidirectional LSTM over the history; pooled: averaged embeddings"
    )
    width: int = Field(32, ge=2, description="embedding width; the LSTM's state per direction has the same width")
    hidden: int = Field(64, ge=2, description="width of the click head's hidden layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the click head")


class DistillConfig(Config):
    teachers: dict[str, float] = Field(
        {"bert": 1.0},
        description="weight of each teacher's logits: the BERT knows the sequence, boosted trees the statistics, which age least",
    )
    student: StudentConfig = Field(StudentConfig(), description="the light model that goes to production")
    training: TrainingConfig = Field(
        TrainingConfig(epochs=2, batch_size=1024, learning_rate=2e-3, unknown_rate=0.2),
        description="training loop of the student, and of the same student alone",
    )
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the labels; 1 - alpha weighs the teacher, so 1 means the labels alone")
    soft: Literal["logit_mse", "soft_targets", "none"] = Field(
        "soft_targets",
        description="soft_targets at a temperature with the T^2 factor (Hinton et al. 2015), or logit_mse (Tang et al. 2019)",
    )
    temperature: float = Field(2.0, ge=0, description="temperature of soft targets")

    @model_validator(mode="after")
    def _weights_add_up(self) -> DistillConfig:
        strange = sorted(set(self.teachers) - {"bert", "boosted_trees"})
        if strange:
            raise ValueError(f"there is no teacher {strange[0]!r}; the teachers are bert and boosted_trees")
        if not self.teachers or min(self.teachers.values()) <= 0 or abs(sum(self.teachers.values()) - 1) > 1e-6:
            raise ValueError("the weights of the teachers must be above zero and add up to 1")
        return self

    @model_validator(mode="after")
    def _temperature_needed(self) -> DistillConfig:
        if self.alpha < 1 and self.soft == "soft_targets" and self.temperature <= 0:
            raise ValueError("soft targets need a temperature above zero; alpha: 1 trains on the labels alone and ignores it")
        if self.alpha < 1 and self.soft == "none":
            raise ValueError("soft: none leaves the teacher's share (1 - alpha) without a loss; set alpha: 1")
        return self


class NextItemConfig(Config):
    exclude_history: bool = Field(
        True,
        description="items that the user clicked before are not ranked, as in the protocol of S3-Rec; false where people click again",
    )
    batch_size: int = Field(1024, ge=1, description="users scored at a time; fewer where the item vocabulary is large")
