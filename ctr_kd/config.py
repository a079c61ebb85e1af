"""Typed settings of learning: the teacher's shape, its training, the objectives, and how students are compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, field_serializer, model_validator

from ctr_kd.config_students import StudentConfig, StudentKind, StudentSettings, sums_up_histories
from ctr_kd.config_teachers import TeacherConfig, as_teachers, in_short
from ctr_kd.config_training import TrainingConfig, auto_training
from feature_store.config import AugmentationConfig
from feature_store.config_types import AUTO, OR_AUTO, Config, by_their_own, is_auto
from feature_store.plugins import load_function


class EncoderConfig(Config):
    """Shape of the BERT encoder (names as in Hugging Face's BertConfig, in the field's short form)."""

    width: Annotated[int, Field(ge=8), *OR_AUTO] = Field(64, description="hidden size; of a checkpoint auto, and so are the next four")
    layers: Annotated[int, Field(ge=1), *OR_AUTO] = Field(2, description="transformer layers")
    heads: Annotated[int, Field(ge=1), *OR_AUTO] = Field(2, description="attention heads; must divide the width")
    feed_forward: Annotated[Annotated[int, Field(ge=8)] | None, *OR_AUTO] = Field(
        None, description="width of the feed-forward layer; null is four times the width"
    )
    dropout: Annotated[float, Field(ge=0, lt=1), *OR_AUTO] = Field(0.1, description="dropout of embeddings, attention and hidden states")
    attention: Literal["bidirectional", "causal"] = Field(
        "bidirectional",
        description="bidirectional: hidden items are predicted from both sides (BERT4Rec); "
        "causal: each item from those before it, all positions in one pass (SASRec)",
    )
    positions: Literal["from_end", "from_start", "relative"] = Field(
        "from_end",
        description="from_end: position 0 is the newest token, so recency keeps its meaning; from_start: the first, as in texts; "
        "relative: no position has a vector, attention falls with the distance (ALiBi), the same at every place of a sequence",
    )
    local_filter: int = Field(
        0,
        ge=0,
        description="tokens, itself and those before it, over which a filter of each dimension reaches that every layer has beside "
        "attention: what was clicked last then counts by its place alone (BSARec, causal); 0 leaves it out",
    )
    prediction: Literal["transformed", "direct"] = Field(
        "transformed",
        description="transformed: a hidden layer stands between a state and the item embeddings that it is compared with, as in BERT; "
        "direct: states lie among the items themselves (SASRec), so that what was clicked weighs on what comes",
    )
    framed: bool = Field(
        False,
        description="[CLS] is put before segment A and [SEP] behind each segment, as released BERTs were trained; false: neither",
    )
    norm_epsilon: Annotated[float, Field(gt=0), *OR_AUTO] = Field(
        1e-12, description="added to the variance in layer normalisation; of a checkpoint auto"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> EncoderConfig:
        if not (is_auto(self.width) or is_auto(self.heads)) and self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the width ({self.width})")
        return self


CHECKPOINT_LAYOUT: dict[str, Any] = {
    "attention": "bidirectional",
    "positions": "from_start",
    "local_filter": 0,
    "prediction": "transformed",
    "framed": True,
}
"""How every released BERT reads, whatever its shape."""

CHECKPOINT_SHAPE = ("width", "layers", "heads", "feed_forward", "dropout", "norm_epsilon")
"""What the folder of a released BERT says itself."""


class PretrainConfig(Config):
    """How the teacher's encoder learns sequences before it sees a label."""

    checkpoint: str | None = Field(
        None,
        description="texts: folder of a Hugging Face BERT below the data folder in place of a training here; package:NAME/PATH is one in "
        "an installed Python package. encoder has its shape, and its vocab.txt is the teacher's vocabulary. Of "
        "training, learning_rate alone is read: by finetune.rate_ratio",
    )
    encoder: EncoderConfig = Field(EncoderConfig(), description="the teacher's encoder")
    more_encoders: list[EncoderConfig] = Field(
        [],
        description="encoders of other sizes that learn the same sequences beside it; each is fine-tuned by the same settings, and the "
        "mean logit of all is the teacher's. Embeddings, hidden states and next items are asked of encoder alone",
    )
    training: TrainingConfig = Field(auto_training(unknown_rate=0.1, embedding_decay=0.0), description="training loop of pretraining")
    clicks: Literal["before_labels", "all"] = Field(
        "before_labels",
        description="sequences end before the fine-tuning labels begin (they stay unseen targets), or run to the end of training; "
        "before_labels has no effect where the labels begin with the log, as without split.train_from: all clicks of training are seen",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="sequences longer than history.max_length are cut into pieces, and each repeats this share of the one before it: "
        "clicks then have more before them, at more work for long sequences",
    )
    leave_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the clicks left out of a sequence, drawn anew whenever it is read; where clicks are few, and their exact "
        "order chance, the encoder learns it less by heart",
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
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="softmax over all items: share of a target's probability that is spread over all of them, so that rare items are not "
        "ruled out by what few clicks happen to say",
    )
    negatives: int = Field(8192, ge=1, description="negatives that a batch shares, of sampled and gbce; fewer are faster and rank worse")
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

    @property
    def of_each_encoder(self) -> list[PretrainConfig]:
        """The same pretraining with each of the encoders as its only one."""
        return [self.model_copy(update={"encoder": one, "more_encoders": []}) for one in (self.encoder, *self.more_encoders)]

    @model_validator(mode="before")
    @classmethod
    def _checkpoint_has_a_layout(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("checkpoint") and isinstance(values.get("encoder", {}), dict):
            values = {**values, "encoder": {**CHECKPOINT_LAYOUT, **dict.fromkeys(CHECKPOINT_SHAPE, AUTO), **values.get("encoder", {})}}
        return values

    @model_validator(mode="after")
    def _encoders_differ(self) -> PretrainConfig:
        encoders = [self.encoder, *self.more_encoders]
        if any(one in encoders[:position] for position, one in enumerate(encoders)):
            raise ValueError("more_encoders holds one that is there already, which would learn the same: finetune.members repeats encoders")
        return self

    @model_validator(mode="after")
    def _items_choose_their_steps(self) -> PretrainConfig:
        if self.training.lazy_ids:
            raise ValueError("training.lazy_ids has no effect in pretraining, where the loss over the items decides: remove it")
        return self

    @model_validator(mode="after")
    def _trained_here_or_elsewhere(self) -> PretrainConfig:
        if self.checkpoint is None:
            encoders = (self.encoder, *self.more_encoders)
            if any(one.framed for one in encoders):
                raise ValueError("encoder.framed is the layout of a checkpoint, and pretraining here does without it: remove it")
            decided = [key for one in encoders for key in CHECKPOINT_SHAPE if is_auto(getattr(one, key))]
            if decided:
                raise ValueError(f"encoder.{decided[0]}: auto is that of a checkpoint, and there is none: write a number")
            return self
        strange = [key for key, value in CHECKPOINT_LAYOUT.items() if getattr(self.encoder, key) != value]
        if strange:
            raise ValueError(f"encoder.{strange[0]} cannot be chosen for a checkpoint, which was trained with its own: remove it")
        fields, read = type(self).model_fields, ("checkpoint", "encoder", "training", "validation_share")
        idle = [name for name in fields if name not in read and getattr(self, name) != fields[name].default]
        if idle:
            raise ValueError(f"{idle[0]} has no effect with a checkpoint, which is not trained here: remove it")
        return self


class HardNegativesConfig(Config):
    """Rows of items near to what a user clicked, which they never met, as rows without a click."""

    amount: float = Field(
        0.0,
        ge=0,
        le=10,
        description="rows as a share of the training rows; 0 is off. Nobody saw them and passed by, so some would have been clicked. They "
        "lower the rate that the teacher learns; what it says is shifted back to the rate of the real training rows",
    )
    neighbours: int = Field(
        20,
        ge=1,
        le=1000,
        description="nearest items of a click, by the pretrained encoder's item embeddings, among which one is drawn that was live then",
    )


class LabelsConfig(Config):
    """How labels beside the click are modelled, where the log has any (``source.events.labels``)."""

    chain: bool = Field(
        False,
        description="further labels follow a click: the probability of each is that of the click times its own given a click (ESMM, Ma et "
        "al. 2018), learned from all impressions; false: each by itself",
    )


class FinetuneConfig(Config):
    """How the pretrained encoder becomes a teacher of clicks or classes."""

    strategy: Literal["low_lr", "freeze", "freeze_then_unfreeze", "from_scratch", "next_segment"] = Field(
        "low_lr",
        description="low_lr: all trains, the pretrained slowly; freeze: new layers alone; freeze_then_unfreeze: first so, then all; "
        "from_scratch: an encoder that was not pretrained, all at the full rate, which shows what pretraining gives; next_segment: nothing "
        "trains, the pretrained next-segment head says whether a pair matches (B continues A)",
    )
    rate_ratio: Annotated[float, Field(gt=0), *OR_AUTO] = Field(
        AUTO,
        description="rate of pretrained parameters over the pretraining rate (new layers train at training.learning_rate); auto: a "
        "hundredth after ten million clicks of pretraining, and up to .3 after fewer",
    )
    encoder_learning_rate: float | None = Field(
        None,
        gt=0,
        description="rate of pretrained parameters as it is, in place of rate_ratio: 2.0e-5 to 5.0e-5 for released BERTs; null: by ratio",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="rate of a layer over that of the layer above it, embeddings lowest; 1 trains all layers alike"
    )
    frozen_share: float = Field(0.5, gt=0, lt=1, description="freeze_then_unfreeze: share of the steps with a frozen encoder")
    head_width: int = Field(128, ge=4, description="hidden width of the click head")
    head_dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the click head")
    cross_layers: int = Field(
        0,
        ge=0,
        le=8,
        description="layers of a cross network over the head's own embeddings, context and statistics, whose logit joins the head's; small "
        "logs of many statistics gain by it; 0 leaves it out",
    )
    embedding_std: float = Field(
        0.05, gt=0, description="of the head's own embeddings at the start; a small one lets an id weigh what its labels make of it"
    )
    recency: bool = Field(
        True,
        description="of clicks: beside the mean of a history's embeddings of its own the head reads a layer of the newest ones; "
        "false: the mean alone",
    )
    members: Annotated[int, Field(ge=1, le=32), *OR_AUTO] = Field(
        AUTO,
        description="fine-tunings of each pretrained encoder, each with a seed of its own, whose mean logit is the teacher's: what one "
        "seed moves by chance the others do not; costs so many times as much; auto: 3 on small logs of clicks, 1 on large ones",
    )
    hard_negatives: HardNegativesConfig = Field(
        HardNegativesConfig(), description="rows beside the training rows that look like clicks and are taken for none"
    )
    training: TrainingConfig = Field(auto_training(), description="training loop of fine-tuning")

    @model_validator(mode="after")
    def _near_by_what(self) -> FinetuneConfig:
        if self.encoder_learning_rate is not None and not is_auto(self.rate_ratio):
            raise ValueError("encoder_learning_rate and rate_ratio both say how fast the encoder moves: remove one of them")
        if self.hard_negatives.amount and self.strategy == "from_scratch":
            raise ValueError("hard_negatives are near by the pretrained encoder, and strategy: from_scratch has none")
        if self.strategy == "freeze_then_unfreeze" and self.training.has_patience:
            raise ValueError("training.patience ends a training early, and strategy: freeze_then_unfreeze has to know its end: remove it")
        if self.strategy == "next_segment" and (self.members not in (1, AUTO) or self.hard_negatives.amount):
            raise ValueError("members and hard_negatives have no effect with strategy: next_segment, which trains nothing; remove them")
        return self


class HintsConfig(Config):
    """Hidden states of the teacher's BERT as targets of the student's vector of a history."""

    hidden: float = Field(0.0, ge=0, description="weight of following its state, by a projection that training alone needs (FitNets)")
    relation: float = Field(0.0, ge=0, description="weight of finding the same histories of a batch alike (Tung and Mori 2019)")


class TransferConfig(Config):
    """Rows without labels: users and items that never met, or texts. The teacher says what to learn from them."""

    amount: float = Field(
        0.0,
        ge=0,
        le=10,
        description="rows as a share of the training rows: half of them of items near to the user's clicks, half popular ones; of texts, "
        "those of source.unlabelled; 0 is off",
    )
    augmentation: AugmentationConfig = Field(AugmentationConfig(), description="texts: new ones made of the training texts")
    neighbours: int = Field(
        20,
        ge=1,
        le=1000,
        description="nearest items of a click, by the BERT's item embeddings, among which one is drawn that was live then",
    )
    seed: int = Field(19, ge=0, description="seed of the draws: the same rows whatever the student and the run's seed")


class EmphasisConfig(Config):
    """How the weights of labels and teacher, and the temperature, change during a training."""

    weight: Literal["constant", "annealed", "warmup"] = Field(
        "constant",
        description="annealed: from the configured weights to the labels alone; warmup: from the teacher alone to the configured weights",
    )
    temperature: Literal["constant", "annealed"] = Field("constant", description="annealed: from the configured temperature to 1")
    share: float = Field(1.0, gt=0, le=1, description="share of the steps over which they move; they stay then")


SOFT_TERMS = ("soft_targets", "kl", "logit_mse", "none")
"""Terms of the teacher's logits that come with the project; others are plug-ins."""


def _is_a_soft_term(name: str) -> str:
    if name not in SOFT_TERMS:
        load_function("ctr_kd.objectives", name, SOFT_TERMS)
    return name


PRESETS = {"tang": "logit_mse", "hinton": "soft_targets"}  # soft of each preset
Calibration = Literal["none", "temperature", "isotonic"]


class DistillConfig(Config):
    """alpha * labels + (1 - alpha) * ((1 - listwise) * soft + listwise * ranking + hints); without a label the second term alone."""

    teachers: Annotated[list[TeacherConfig], BeforeValidator(as_teachers)] = Field(
        [TeacherConfig(name="bert")],
        min_length=1,
        description="who teaches, and how much each counts; {NAME: WEIGHT} is the short form. The BERT knows the sequence, boosted_trees "
        "the statistics, which age least, linear the character n-grams of texts, linear_words their words beside them, naive_bayes what "
        "each class alone looks like; others have scores, model or plugin",
    )
    weighting: Literal["fixed", "validation", "learned"] = Field(
        "fixed",
        description="fixed: the weights of teachers, as they are; validation: those, or others in quarters of the whole, by their loss on "
        "validation; learned: weights of the teachers that depend on a row's statistics and history, where validation prefers them to the "
        "fixed ones; every teacher is trained once more for it, without the newest training rows",
    )
    held_out: float = Field(
        0.2, gt=0, lt=1, description="weighting: learned: newest share of the training rows, on which the weights are fitted"
    )
    student: Annotated[SerializeAsAny[StudentConfig | StudentSettings], by_their_own(StudentSettings)] = Field(
        StudentConfig(), description="the light model that goes to production; a plug-in has keys of its own beside `kind`"
    )
    training: TrainingConfig = Field(
        auto_training(),
        description="training loop of the student, and of the same student alone",
    )
    preset: Literal["tang", "hinton"] | None = Field(
        None,
        description="tang: alpha CE + (1 - alpha) MSE, hence soft: logit_mse; hinton: CE(y, p) + teacher_weight CE(p, q), hence soft: "
        "soft_targets; null: alpha and soft as they are set",
    )
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the labels; 1 - alpha weighs the teacher, so 1 means the labels alone")
    teacher_weight: float = Field(1.0, gt=0, description="preset hinton: weight of the teacher where the labels have weight 1")
    soft: Annotated[str, AfterValidator(_is_a_soft_term)] = Field(
        "soft_targets",
        description="soft_targets: cross entropy at a temperature with the T^2 factor (Hinton et al. 2015); kl: the same without the "
        "teacher's entropy, equal in its gradient; logit_mse (Tang et al. 2019); none; or a plug-in's",
    )
    temperature: float = Field(
        2.0, ge=0, le=1000, description="temperature of soft targets, kl and listwise; beyond a thousand float32 sees no differences"
    )
    listwise: float = Field(
        0.0, ge=0, le=1, description="share of the teacher's weight, taken from soft, for ranking a request's candidates as it does"
    )
    hints: HintsConfig = Field(HintsConfig(), description="terms of the teacher's hidden states, weighed as soft is")
    gate: Literal["none", "label"] = Field(
        "none", description="label: soft weighs less in rows where the teacher gives the label less than the label's share of all rows"
    )
    schedule: EmphasisConfig = Field(EmphasisConfig(), description="how weights and temperature change during training")
    transfer: TransferConfig = Field(
        TransferConfig(),
        description="the transfer set: unlabelled rows beside the training rows, at as many steps; not for the student alone",
    )
    embeddings: Literal["random", "teacher"] = Field(
        "random", description="teacher: embeddings start as the BERT's, on their principal components; the student alone starts at random"
    )
    calibration: Calibration = Field(
        "temperature",
        description="fitted on validation, exported inside the student, the same for the student alone; it changes no ranking. "
        "temperature: scale and bias of the logit; isotonic: a rising line of up to 50 knots; none: the logits as trained",
    )
    ship: Literal["better", "student", "alone"] = Field(
        "better",
        description="which student is registered and scores. better: the distilled one, unless on validation the same student alone is "
        "better beyond chance; student, alone: that one, whatever validation says",
    )

    @field_serializer("teachers")
    def _in_short(self, teachers: list[TeacherConfig]) -> Any:
        """As ``{NAME: WEIGHT}`` where that says all."""
        return in_short(teachers)

    @property
    def partly_taught(self) -> bool:
        """Whether there may be rows of which no teacher says anything."""
        return all(teacher.partial for teacher in self.teachers)

    @property
    def compares_rows(self) -> bool:
        """Whether a loss compares the rows of a batch with each other, which then cannot be parted."""
        return bool(self.listwise or self.hints.relation)

    @property
    def teacher_weights(self) -> dict[str, float]:
        """Weight of each teacher by name; they add up to 1."""
        whole = math.fsum(teacher.weight for teacher in self.teachers)
        return {teacher.name: teacher.weight / whole for teacher in self.teachers}

    @property
    def weights(self) -> tuple[float, float]:
        """Weight of the labels' term and of the teacher's terms."""
        if self.alpha == 1:
            return 1.0, 0.0
        return (1.0, self.teacher_weight) if self.preset == "hinton" else (self.alpha, 1 - self.alpha)

    @property
    def changes_course(self) -> bool:
        """Whether weights or temperature move with the share of the steps that are done."""
        return (self.schedule.weight, self.schedule.temperature) != ("constant", "constant")

    @property
    def transfers(self) -> bool:
        """Whether the student learns from rows without labels too."""
        return (self.transfer.amount > 0 or self.transfer.augmentation.amount > 0) and self.weights[1] > 0

    @property
    def needs_encoder(self) -> bool:
        """Whether the student reads the teacher's BERT itself, not only its logits."""
        return self.embeddings == "teacher" or (self.alpha < 1 and self.hints != HintsConfig())

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        if isinstance(preset, str) and preset in PRESETS:
            soft = values.get("soft", PRESETS[preset])
            if soft != PRESETS[preset]:
                raise ValueError(f"preset {preset} has soft: {PRESETS[preset]}, not {soft}; leave one of them out")
            values = {**values, "soft": soft}
        return values

    @model_validator(mode="after")
    def _weights_add_up(self) -> DistillConfig:
        names = [teacher.name for teacher in self.teachers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"teachers: two are called {twice!r}; give each a name of its own")
        if self.changes_course and self.training.has_patience:
            raise ValueError("training.patience ends a training early, and schedule has to know its end: remove one of the two")
        if self.weighting == "learned" and len(self.teachers) < 2:
            raise ValueError("weighting: learned weighs teachers against each other, and there is one; name two in teachers")
        given = next((one.name for one in self.teachers if one.kind != "own" or one.out_of_fold), None)
        if self.weighting == "learned" and given is not None:
            raise ValueError(f"weighting: learned trains every teacher once more, which {given} is not made for: let it be fixed")
        if self.alpha < 1 and self.soft == "none" and 0 < self.listwise < 1:
            raise ValueError(
                f"soft: none leaves 1 - listwise ({1 - self.listwise:g}) of the teacher's weight without a loss; set listwise: 1"
            )
        if self.alpha < 1 and self.soft == "none" and not self.listwise and self.hints == HintsConfig():
            raise ValueError("soft: none leaves the teacher's share (1 - alpha) without a loss; set alpha: 1, or listwise or hints")
        return self

    @model_validator(mode="after")
    def _terms_fit(self) -> DistillConfig:
        """Terms that ask for what is not there."""
        if self.needs_encoder and "bert" not in self.teacher_weights:
            raise ValueError("hints and embeddings: teacher come from the BERT, which is none of the teachers")
        if self.alpha == 1:
            return self
        if (self.soft in ("soft_targets", "kl") or self.listwise) and self.temperature <= 0:
            raise ValueError("soft targets need a temperature above zero; alpha: 1 trains on the labels alone and ignores it")
        if self.gate != "none" and self.soft == "none":
            raise ValueError("gate weighs soft, which is none")
        if self.hints != HintsConfig() and not sums_up_histories(self.student.kind):
            raise ValueError(f"hints need a student that sums up a history by itself; {self.student.kind} reads it anew for each candidate")
        if self.compares_rows and self.training.accumulate > 1:
            raise ValueError("listwise and hints.relation compare the rows of a batch with each other, so training.accumulate must be 1")
        return self


class NextItemStudentConfig(Config):
    """A light student of the pretrained encoder, which says what comes next by one vector of a history and one of each item."""

    width: int | None = Field(None, ge=8, description="of a history's vector and an item's; null is the encoder's, which is the most")
    hidden: int = Field(256, ge=8, description="units of the feed-forward layer behind the sum of a history's clicks")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout of clicks and of that layer")
    alpha: float = Field(0.1, ge=0, le=1, description="share of the clicks themselves in the loss; the rest is what the encoder says")
    temperature: float = Field(1.0, gt=0, description="at which the encoder's and the student's probabilities are compared")
    negatives: int = Field(
        8192, ge=1, description="items that a batch is compared on where the vocabulary is above 20,000: its own, and so many drawn ones"
    )
    training: TrainingConfig = Field(
        TrainingConfig(epochs=20, batch_size=128, learning_rate=3e-3, unknown_rate=0.0, keep="last"), description="its training loop"
    )


class NextItemConfig(Config):
    """How the pretrained encoder is asked for the next item."""

    exclude_history: bool = Field(
        True,
        description="items that the user clicked before are not ranked, as in the protocol of S3-Rec; false where people click again",
    )
    batch_size: int = Field(1024, ge=1, description="users scored at a time; fewer where the item vocabulary is large")
    student: NextItemStudentConfig = Field(
        NextItemStudentConfig(), description="a light student of the encoder, as it is asked for the next item"
    )


Component = Literal["soft", "listwise", "hints", "gate", "schedule", "embeddings", "transfer"]


class ArmConfig(Config):
    """An arm of a proof: the run with other values under some of its keys."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$", description="what tables call it")
    set_: dict[str, Any] = Field(
        alias="set",
        min_length=1,
        description="dotted keys of the run with the arm's values, such as {statistics.of: []}; none that says which rows are tested",
    )


class ProveConfig(Config):
    """Which students `prove` compares."""

    seeds: int = Field(5, ge=1, le=100, description="seeds with which student and student alone are trained, from the run's seed on")
    teachers: int = Field(
        1,
        ge=1,
        le=100,
        description="seeds with which the teacher is made, from the run's seed on, each with students of its own; "
        "the ablation stays under the first, and the intervals of one teacher leave out what another would give",
    )
    ablation: list[Component] = Field(
        ["soft", "listwise", "hints", "gate", "schedule", "embeddings", "transfer"],
        description="parts of distill that are switched on or off, one at a time, under the same seeds; [] leaves the ablation out",
    )
    amounts: list[Annotated[float, Field(ge=0, le=10)]] = Field(
        [0.5, 1.0],
        description="amounts of the transfer set that part transfer of the ablation compares, beside none and the configured one; "
        "of texts with augmentation those of augmentation",
    )
    arms: list[ArmConfig] = Field(
        [],
        description="the run with other keys, from its rows to its student, beside the configured one: the same seeds, the same test rows",
    )

    @model_validator(mode="after")
    def _names_are_the_arms_own(self) -> ProveConfig:
        names = [arm.name for arm in self.arms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"arms: there are two called {twice!r}; give each a name of its own")
        return self


class SweepConfig(Config):
    """Which students `sweep` trains, and what they are drawn beside."""

    kinds: list[StudentKind] = Field(["pooled", "dcn", "din", "bilstm"], min_length=1, description="kinds of student that are trained")
    widths: list[int] = Field([8, 16, 32, 64], min_length=1, description="each kind is trained with each of these widths")
    points: Path | None = Field(
        None,
        description="JSON file with models of others, measured on the same rows, that are drawn beside the students, such as "
        "results/quality_NAME.json of `make bench-quality`",
    )
