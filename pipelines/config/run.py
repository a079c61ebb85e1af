"""One YAML file describes one run: loading it, naming what is wrong with it, and printing it back with every key explained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, model_validator

from ctr_kd.config import DistillConfig, FinetuneConfig, LabelsConfig, NextItemConfig, PretrainConfig, ProveConfig, SweepConfig
from ctr_kd.config_students import COMBINING, STUDENT_KINDS
from ctr_kd.config_teachers import TEXT_TEACHERS
from ctr_kd.config_training import auto_training
from feature_store.config import (
    AssemblyConfig,
    CandidateConfig,
    EmbeddingsConfig,
    FeatureStoreConfig,
    HistoryConfig,
    SourceConfig,
    SplitConfig,
    TokensConfig,
    VocabularyConfig,
)
from feature_store.config_statistics import EVENTS, StatisticsConfig
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.config_types import Config, Duration, block_of, by_their_own, duration_text, is_auto, keep_defaults_of_blocks, keys_of
from pipelines.config.evaluate import EvaluateConfig
from pipelines.config.problems import Document, Misfits, cause_of, problems_of, read_yaml
from pipelines.config.register import RegisterConfig
from pipelines.config.retention import RetentionConfig
from pipelines.config.schedule import ScheduleConfig
from pipelines.config.scoring import MonitorConfig, ScoreConfig
from pipelines.config.shipped import shipped_file, shipped_names
from pipelines.config.teacher_only import TeacherOnlyConfig
from pipelines.config.tracking import TrackingConfig
from pipelines.config.training import StartConfig, WarmConfig
from pipelines.config.tune import TuneConfig
from pipelines.errors import ConfigError

TaskName = Literal["clicks", "texts"]

STUDENT_KEYS = tuple(f"distill.{name}" for name in DistillConfig.model_fields if name != "ship")
"""What students are trained by: which of two ships is decided later, and trains none anew."""


LINEAR_TOKENS = {"kind": "auto", "min_count": 1, "keep_unknown": False}
LINEAR_TRAINING = auto_training(unknown_rate=0.0)
"""How the default student of single texts reads and learns: linear, as most of its teachers are. By validation and by training
rows held out, of titles, questions and reviews, it is best in n-grams of Chinese and in words of English.
Unknown n-grams are left out: of a new title they are two in five, and all count in the length by which the sum is divided."""


_TOKENS_OF_BEFORE = TokensConfig.model_validate(
    {"teacher": {"kind": "wordpiece", "max_length": 128}, "student": {"kind": "words", "max_length": 128}}
)
"""What `ctr-kd config` of an earlier release printed of a click log, which has no tokens."""


class RunConfig(Config):
    """All that a run depends on besides its data. ``source`` and ``split`` suffice, for texts ``source`` alone."""

    name: str = Field(max_length=200, pattern=r"^\w[\w.-]*$", description="registered model's name; default: the file's name without .yaml")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of initialisation, batches and dropout")
    budget: Duration | None = Field(
        None,
        description="time that the run is to take, such as 20m, of which each training has a share (its `minutes`); what it does in that "
        "time depends on the machine. null: as long as the log asks for",
    )
    source: Annotated[SerializeAsAny[SourceConfig], by_their_own(SourceConfig)] = Field(description="where the raw log comes from")
    split: SplitConfig | None = Field(
        None, description="training, validation and test window; times are UTC and exclusive. Texts have none: their splits are files"
    )
    tokens: TokensConfig = Field(TokensConfig(), description="texts: how teacher and student read them")
    candidates: CandidateConfig = Field(CandidateConfig(), description="sampled candidates of a log of clicks only")
    history: HistoryConfig = Field(HistoryConfig(), description="click histories")
    statistics: StatisticsConfig = Field(StatisticsConfig(), description="as-of statistics of items and users")
    vocabulary: VocabularyConfig = Field(VocabularyConfig(), description="ids that get an embedding of their own")
    embeddings: EmbeddingsConfig | None = Field(
        None, description="item vectors that are learned in the order of time, as facts as of a time; absent: none"
    )
    teacher_state: TeacherStateConfig | None = Field(
        None,
        description="a vector of each user's whole history, which the teacher's encoder makes once a night, as a feature; absent: none",
    )
    feature_store: FeatureStoreConfig = Field(FeatureStoreConfig(), description="the engine that assembles rows")
    labels: LabelsConfig = Field(LabelsConfig(), description="labels beside the click, such as a purchase: how they are modelled")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="masked item prediction over click sequences")
    next_item: NextItemConfig = Field(NextItemConfig(), description="ranking of the next item by the pretrained encoder")
    finetune: FinetuneConfig = Field(FinetuneConfig(), description="the teacher: each pretrained encoder with a click head")
    distill: DistillConfig = Field(DistillConfig(), description="the student")
    teacher_only: TeacherOnlyConfig = Field(
        TeacherOnlyConfig(), description="inputs of the teachers alone: known after the fact, or too costly to serve"
    )
    training: StartConfig = Field(StartConfig(), description="how a night's training begins")
    warm: WarmConfig = Field(WarmConfig(), description="nights that continue from the last champion")
    prove: ProveConfig = Field(ProveConfig(), description="student against student alone over several seeds")
    sweep: SweepConfig = Field(SweepConfig(), description="a grid of students: AUC against rows per second and bytes")
    tune: TuneConfig = Field(TuneConfig(), description="a search for better values of the keys above, on validation")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="metrics, intervals and baselines")
    register_: RegisterConfig = Field(RegisterConfig(), alias="register", description="the gate between challenger and champion")
    score: ScoreConfig = Field(ScoreConfig(), description="scoring of one date's candidates")
    monitor: MonitorConfig = Field(MonitorConfig(), description="bounds on scored dates whose clicks have arrived")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="when the Airflow DAG runs, and what it does about failures")
    tracking: TrackingConfig = Field(TrackingConfig(), description="MLflow")
    retention: RetentionConfig = Field(RetentionConfig(), description="what a workspace keeps of what it made")

    @model_validator(mode="before")
    @classmethod
    def _checkpoint_brings_its_words(cls, values: Any) -> Any:
        """A checkpoint's vocab.txt is the teacher's vocabulary unless something else is written, which is an error below."""
        pretrain, tokens = (values.get(key) or {} for key in ("pretrain", "tokens"))
        teacher = (tokens.get("teacher") or {}) if isinstance(tokens, dict) else None
        if not isinstance(pretrain, dict) or not isinstance(teacher, dict) or not (checkpoint := pretrain.get("checkpoint")):
            return values
        if teacher.get("kind", "wordpiece") == "wordpiece" and not teacher.get("vocabulary"):
            teacher = {"kind": "wordpiece", **teacher, "vocabulary": f"{checkpoint}/vocab.txt"}
        return {**values, "tokens": {**tokens, "teacher": teacher}}

    @model_validator(mode="before")
    @classmethod
    def _teachers_bring_their_columns(cls, values: Any) -> Any:
        """A column of the log that a teacher repeats is kept in the store, where ``source.events.scores`` does not name it already."""
        distill, source = (values.get(key) for key in ("distill", "source"))
        teachers = distill.get("teachers") if isinstance(distill, dict) else None
        events = source.get("events") if isinstance(source, dict) else None
        if not isinstance(teachers, list) or not isinstance(events, dict) or not isinstance(events.get("scores") or {}, dict):
            return values
        said = [teacher["scores"] for teacher in teachers if isinstance(teacher, dict) and isinstance(teacher.get("scores"), dict)]
        own: dict[str, Any] = {**(events.get("scores") or {})}
        for scores in said:
            if isinstance(scores.get("column"), str) and own.get(scores["column"]) is None:
                own[scores["column"]] = scores.get("known")
        return {**values, "source": {**source, "events": {**events, "scores": own}}} if own else values

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, values: Any) -> Any:
        return with_defaults_of_the_task(values)

    @model_validator(mode="after")
    def _keys_fit_the_rows(self) -> RunConfig:
        misfits = [*(self._misfits_of_texts() if self.task == "texts" else self._misfits_of_clicks()), *self._misfits_of_both()]
        if misfits:
            raise Misfits(misfits)
        return self

    def _misfits_of_both(self) -> Iterator[str]:
        """Keys that fit no rows as they are."""
        yield from self._misfits_of_teachers()
        if self.finetune.strategy == "next_segment" and self.pretrain.checkpoint is None and not self.pretrain.next_segment:
            yield "finetune.strategy: next_segment asks the head that pretrain.next_segment trains: set its weight above 0"
        own, other = self.distill.student.width, self.pretrain.encoder.width
        light = self.next_item.student.width
        if light is not None and not is_auto(other) and light > other:
            yield f"next_item.student.width ({light}) is above pretrain.encoder.width ({other}), whose embeddings it begins with: lower it"
        if self.distill.embeddings == "teacher" and not is_auto(other) and own > other:
            yield f"distill.embeddings: teacher needs a distill.student.width ({own}) up to pretrain.encoder.width ({other})"

        known = self._columns_of_slices()
        strange = [name for name in self.register_.slices if known is not None and name not in known]
        if known is not None and strange:
            yield f"register.slices: there is no column {strange[0]!r} with few values; there are {', '.join(known)}"

    def _columns_of_slices(self) -> list[str] | None:
        """Columns by whose parts the gate may judge; None for readers that know theirs once they have read the log."""
        if self.task == "texts":
            return ["label"]
        named = self._columns_of_few_values()
        return None if named is None else [*named, "history_length", "item"]

    def _columns_of_few_values(self) -> list[str] | None:
        """Categorical columns of a click log; None for readers that know theirs once they have read it."""
        if self.source.reader != "tabular":
            return None
        described = [block for block in (self.source.items, self.source.users) if block is not None]
        return [*self.source.context.categorical, *(name for block in described for name in (*block.categorical, *block.multi))]

    def _misfits_of_teachers(self) -> Iterator[str]:
        """Teachers that cannot judge such rows."""
        teachers = self.distill.teachers
        events, of_clicks = self.source.events, self.task == "clicks"
        for teacher in teachers:
            if teacher.scores is not None and not of_clicks:
                yield f"distill.teachers: {teacher.name} has scores of clicks, and texts have none: use model or plugin"
            elif teacher.scores is not None and teacher.scores.column is not None and events is None:
                yield f"distill.teachers: {teacher.name} names a column, which reader tabular alone reads: give its scores in files"
            if teacher.scores is not None and events is not None and teacher.scores.column is not None:
                kept = events.scores.get(teacher.scores.column)
                if teacher.scores.known not in (None, kept):
                    yield (
                        f"distill.teachers: {teacher.name} has its times in {teacher.scores.known}, and source.events.scores or another "
                        f"teacher in {kept}: name one of them"
                    )
            if teacher.kind in ("scores", "model") and events is not None and events.labels:
                yield f"distill.teachers: {teacher.name} speaks of clicks alone, and there are source.events.labels: use a plugin"
            if teacher.model is not None and teacher.model.startswith(f"models:/{self.name}@"):
                yield f"distill.teachers: {teacher.name} is {teacher.model}, which every promotion of this run moves: name a version"
            if teacher.out_of_fold and (not of_clicks or self.training.start == "warm"):
                why = "a warm night trains no teacher anew" if of_clicks else "texts have no times"
                yield f"distill.teachers: {teacher.name} is to be out of fold, and {why}: remove it"
            if teacher.out_of_fold and teacher.name == "bert" and self.teacher_only.future_clicks:
                yield "distill.teachers: bert is to be out of fold, and teacher_only.future_clicks shows it what came later: remove one"
        if self.distill.transfers and all(teacher.scores is not None for teacher in teachers):
            yield "distill.transfer makes rows that nobody scored: name a teacher that can be asked, or set its amount to 0"

    def _misfits_of_clicks(self) -> Iterator[str]:
        """Keys that have no meaning for a click log."""
        if self.pretrain.checkpoint is not None:
            yield "pretrain.checkpoint is a BERT of words, and a click log has items of its own; remove it"
        elif self.tokens not in (TokensConfig(), _TOKENS_OF_BEFORE):
            yield "tokens has no effect on a click log; remove it, or set source.reader: text"
        if self.statistics.auto and self._columns_of_few_values() == []:
            yield "statistics.auto needs columns to cross items and users with: name source.context, items or users, or remove it"
        events = self.source.events
        by_row = events is not None and events.negative_sampling_rate is not None
        if self.statistics.listwise_context and (by_row or self.source.negative_sampling_rate is not None):
            thinned = f"source.{'events.' if by_row else ''}negative_sampling_rate says that some are not in the log"
            yield f"statistics.listwise_context compares all candidates of a request, and {thinned}: remove one of them"
        yield from self._misfits_of_labels()
        yield from self._misfits_of_counts()
        yield from self.teacher_only.misfits(
            self.source, self.split, self.history, pretrain=self.pretrain, finetune=self.finetune, distill=self.distill
        )
        if self.split is None:
            yield "split is missing; it is required (training, validation and test window), for all readers but text"
        elif self.teacher_state is not None and self.split.leave_one_out:
            yield "teacher_state needs times, night by night, and split.leave_one_out is of logs that need none: remove one of them"
        elif self.training.start == "warm" and (self.split.leave_one_out or self.split.fractions):
            yield "training.start: warm continues from one window of time to the next: name split.train, validation and test, or their ends"
        if self.training.start == "warm" and self.distill.weighting == "learned":
            yield "distill.weighting: learned judges teachers that are trained anew, which no warm night does: let it be fixed"
        of_texts = [name for name in TEXT_TEACHERS if name in self.distill.teacher_weights]
        if of_texts:
            yield f"distill.teachers: {of_texts[0]} is a teacher of texts; clicks have bert and boosted_trees"
        if self.evaluate.text_gcn:
            yield "evaluate.text_gcn is a network of texts and their words, and there are none: remove it"
        if self.register_.boosted_trees_gain_min is not None and not self.evaluate.boosted_trees:
            yield "register.boosted_trees_gain_min asks for what evaluate.boosted_trees: false leaves out; remove one of them"
        if self.distill.transfer.augmentation.amount:
            yield "distill.transfer.augmentation makes texts, and there are none; transfer.amount is the transfer set of clicks"

    def _misfits_of_counts(self) -> Iterator[str]:
        """Events that statistics count and the log has not, and the label by its own name."""
        types = None if self.source.events is None else self.source.events.type
        known = [*EVENTS, *(types.names[1:] if types is not None else ())]
        for number, declared in enumerate(self.statistics.of):
            for event in declared.count:
                if types is not None and event == types.label:
                    yield f"statistics.of[{number}].count: {event} is the label, whose events are counted as clicks: write clicks"
                elif event not in known:
                    yield f"statistics.of[{number}].count: there are no events {event!r}; count some of {', '.join(known)}"

    def _misfits_of_labels(self) -> Iterator[str]:
        """Keys that do not go with labels beside the click, or not without."""
        events = self.source.events
        if events is None or not events.labels:
            if self.labels.chain:
                yield "labels.chain is about labels beside the click, and source.events.labels names none: remove it"
            return
        if self.distill.weighting == "learned":
            yield "distill.weighting: learned weighs teachers of one label, and there are source.events.labels: let it be fixed"
        if self.labels.chain and self.finetune.hard_negatives.amount:
            yield "labels.chain learns from what was shown, and finetune.hard_negatives were not: remove one of them"

    def _misfits_of_texts(self) -> Iterator[str]:
        """Keys that have no meaning for texts, or not for those that there are."""
        checkpoint, pair, distill = self.pretrain.checkpoint, self.source.text_b is not None, self.distill
        if checkpoint is not None and self.tokens.teacher.vocabulary != f"{checkpoint}/vocab.txt":
            yield "pretrain.checkpoint has words of its own: remove tokens.teacher.vocabulary, and let the kind be wordpiece"
        if self.finetune.strategy == "next_segment" and not pair:
            yield "finetune.strategy: next_segment says whether two texts match, and there is one; set source.text_b"
        if self.split is not None:
            yield "split has no effect on texts, whose splits are files (source.train, validation, test): remove it"
        if self.register_.boosted_trees_gain_min is not None:
            yield "register.boosted_trees_gain_min is of clicks; texts have no boosted trees: remove it"
        if self.training.start == "warm":
            yield "training.start: warm continues with what is new, and texts have no times: remove it"
        if self.labels.chain:
            yield "labels.chain is about labels beside a click, and texts have none: remove it"
        if self.embeddings is not None:
            yield "embeddings are of items that users click, and texts have none: remove it"
        if self.teacher_only != TeacherOnlyConfig():
            yield "teacher_only names columns of clicks, and texts have none: remove it; tokens says what teacher and student read"
        if self.teacher_state is not None:
            yield "teacher_state is of users and what they click, and texts have none: remove it"
        if self.statistics.auto:
            yield "statistics.auto has no effect on texts, which have no statistics: remove it"
        if "boosted_trees" in distill.teacher_weights:
            yield f"distill.teachers: boosted_trees is a teacher of clicks; texts have bert, {', '.join(TEXT_TEACHERS)}"
        if distill.calibration == "isotonic":
            yield "distill.calibration: isotonic is for clicks; of classes use temperature or none"
        if distill.listwise:
            yield "distill.listwise ranks a request's candidates, and texts have none: remove it"
        if distill.weighting == "learned":
            yield "distill.weighting: learned needs rows in the order of time, and texts have none"
        if self.tokens.teacher.vectors is not None:
            yield "tokens.teacher.vectors has no effect: the BERT learns its embeddings in pretraining; remove it"
        if self.tokens.student.vectors is not None and distill.embeddings == "teacher":
            yield "distill.embeddings: teacher and tokens.student.vectors are two beginnings of one table; leave one out"
        if distill.needs_encoder and self.tokens.teacher != self.tokens.student:
            yield "hints and embeddings: teacher need one tokenizer for both: let tokens.student be as tokens.teacher, or leave them out"
        if distill.transfer.amount and self.source.unlabelled is None:
            yield "distill.transfer.amount takes texts of source.unlabelled, and that names none; set it, or use augmentation"
        if self.evaluate.text_gcn and pair:
            yield "evaluate.text_gcn has a node for each text, not for pairs: remove it"
        if self.finetune.hard_negatives.amount:
            yield "finetune.hard_negatives are items that a user never met, and texts have no users"

    @property
    def task(self) -> TaskName:
        """What the rows are: impressions that were clicked or not, or texts with classes."""
        return "texts" if self.source.reader == "text" else "clicks"

    @property
    def has_dates(self) -> bool:
        """Whether rows come by date, so that dates can be scored, and watched once their clicks have arrived."""
        return self.task == "clicks"

    def need_clicks(self) -> SplitConfig:
        """The split in time, which clicks have and texts have not.

        Raises
        ------
        ConfigError
            When the rows are texts.
        """
        if self.split is None:
            raise ConfigError(f"source.reader {self.source.reader} holds no click log, which this command needs")
        return self.split

    @property
    def assembly(self) -> AssemblyConfig:
        """The keys that turn events into rows.

        Raises
        ------
        ConfigError
            When the rows are texts, for which there is no split.
        """
        return AssemblyConfig(
            split=self.need_clicks(),
            candidates=self.candidates,
            history=self.history,
            statistics=self.statistics,
            vocabulary=self.vocabulary,
            embeddings=self.embeddings,
            teacher_state=self.teacher_state,
            negative_sampling_rate=self.source.negative_sampling_rate,
        )

    @property
    def chooses_statistics(self) -> bool:
        """Whether ``statistics.auto`` is on: by default where nothing is declared, and there is a time to judge by and what to cross."""
        if self.statistics.auto is not None or self.split is None:
            return bool(self.statistics.auto)
        declared = next(self.statistics.declared(), None)
        return declared is None and not self.split.leave_one_out and self._columns_of_few_values() != []

    def section(self, keys: Sequence[str]) -> dict[str, Any]:
        """Values under dotted keys, as plain JSON types: what a fingerprint is made of.

        A run of one label says nothing of ``labels``, one whose teachers read what the student reads nothing of ``teacher_only``, one
        without teacher states nothing of these, and one of clicks nothing of ``tokens``.

        Raises
        ------
        KeyError
            When a key does not exist: a mistake in a stage's declaration, not in a configuration.
        """
        values = self.model_dump(mode="json", by_alias=True)
        section = {}
        for key in keys:
            if (key == "labels" and self.labels == LabelsConfig()) or (key == "teacher_state" and self.teacher_state is None):
                continue
            if (key == "teacher_only" and self.teacher_only == TeacherOnlyConfig()) or (key == "tokens" and self.task == "clicks"):
                continue
            if key == "teacher_only.future_clicks" and not self.teacher_only.future_clicks:
                continue
            value: Any = values
            for part in key.split("."):
                value = value[part]
            section[key] = value
        return section


def with_defaults_of_the_task(values: Any) -> Any:
    """Keys of a configuration as it is written, and beside them those whose default depends on what the rows are.

    Sequences without times have a position a day, in which an hour is nothing: their windows are weeks. Where nobody is named, the BERT
    teaches, which knows the sequence, and beside it what knows the rest; validation weighs them. Where texts are single and nothing is said
    of the student, it is linear in words or n-grams.

    Parameters
    ----------
    values : dict
        Anything else is given back: it is refused elsewhere.
    """
    if not isinstance(values, dict):
        return values
    names = ("source", "candidates", "statistics", "tokens", "distill")
    source, candidates, statistics, tokens, distill = (values.get(name) or {} for name in names)
    training: Any = distill.get("training", {}) if isinstance(distill, dict) else None
    if not all(isinstance(block, dict) for block in (source, candidates, statistics, tokens, distill, training)):
        return values
    reader, found = source.get("reader"), dict(values)
    if reader == "s3rec":
        found |= {"candidates": {"window": "60d"} | candidates, "statistics": {"windows": ["7d", "60d"]} | statistics}
    single = reader == "text" and source.get("text_b") is None
    asks_encoder = "hints" in distill or "embeddings" in distill  # which both must read alike
    if single and not asks_encoder and "student" not in tokens and "student" not in distill:
        student = {"kind": "pooled", "combiner": "sqrtn", "width": 16, "hidden": 0}
        distill = {**distill, "student": student, "training": LINEAR_TRAINING.model_dump(exclude_unset=True) | training}
        found |= {"tokens": {**tokens, "student": LINEAR_TOKENS}, "distill": distill}
    events = source.get("events")
    several = bool(source.get("labels") or (isinstance(events, dict) and events.get("labels")))  # trees are of one label
    if "teachers" not in distill and not several:
        teachers = ("bert", *TEXT_TEACHERS) if reader == "text" else ("bert", "boosted_trees")
        found["distill"] = {"weighting": "validation", **distill, "teachers": {name: 1 / len(teachers) for name in teachers}}
    return found


def with_new_keys(key: str, value: Any) -> Any:
    """What :meth:`RunConfig.section` gave in an earlier release for a block, with the keys that the block has had since, at their defaults.

    Examples
    --------
    >>> with_new_keys("history", {"max_length": 5})
    {'max_length': 5, 'min_length': 0}
    """
    block = block_of(RunConfig.model_fields[key].annotation, value) if key in RunConfig.model_fields else None
    try:
        return value if block is None else block.model_validate(value).model_dump(mode="json", by_alias=True)
    except ValidationError:  # it had a key that there is no more
        return value


def as_it_was(block: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What is remembered of ``finetune`` or ``distill.student`` of clicks: before they had ``recency`` there was no such layer.

    A student of a kind without it says of the key what the block of today says, which means nothing there.
    """
    never = block.get("kind") in set(STUDENT_KINDS) - set(COMBINING)
    return {**block, "recency": now["recency"]} if never else {"recency": False, **block}


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration and check every key of it.

    Parameters
    ----------
    path : str or Path
        YAML file; where there is none, the name of a configuration that comes with the project, see :func:`shipped_file`.
    overrides : sequence of str
        ``key.path=value``, as given with ``--set``; the value is read as YAML.

    Raises
    ------
    ConfigError
        All that is wrong with it, a line each: the file and the line in it (or ``--set``), the dotted key, and what is allowed there.
    """
    path = Path(path)
    path = shipped_file(path) or path
    document = _read(path)
    values = document.values
    if "name" not in values:
        values["name"] = re.sub(r"[^\w.-]+", "-", path.stem).lstrip(".-") or "run"
    overridden = [_override(values, override) for override in overrides]
    values = with_defaults_of_the_task(values)
    keep_defaults_of_blocks(values, RunConfig)
    try:
        config, error = RunConfig.model_validate(values), None
    except ValidationError as wrong:
        error = wrong
    problems = problems_of(error, document, overridden, RunConfig)
    if problems:
        raise ConfigError(*problems) from cause_of(error)
    return config


def with_changes(config: RunConfig, changes: Mapping[str, Any], where: str) -> RunConfig:
    """The configuration with other values under some dotted keys, checked as a file is.

    Parameters
    ----------
    config : RunConfig
    changes : mapping of str to value
    where : str
        What says them: the beginning of what is said of a mistake.

    Raises
    ------
    ConfigError
        All that is wrong with them, a line each.
    """
    values = config.model_dump(by_alias=True, exclude_unset=True)
    for key, value in changes.items():
        if not all(key.split(".")):
            raise ConfigError(f"{where}: {key!r} is no dotted key; write one, such as distill.student.kind")
        set_key(values, key, value, where)
    keep_defaults_of_blocks(values, RunConfig)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*problems_of(error, Document(where, values), (), RunConfig)) from None


def privileged(config: RunConfig) -> bool:
    """Whether the teacher reads columns that the student cannot have when it is served: no figure of it is one of what could be served.

    Later clicks are none: it reads them of training rows alone.
    """
    return bool(config.teacher_only.named)


def _read(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path}: no such file; with the project come {', '.join(shipped_names())}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file in it") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        document = read_yaml(text, str(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    if document.values is None:
        return Document(str(path), {})
    if not isinstance(document.values, dict):
        raise ConfigError(f"{path}: should hold keys and values ({', '.join(keys_of(RunConfig))}), not {type(document.values).__name__}")
    return document


def _override(values: dict[str, Any], override: str) -> str:
    """Set one ``key.path=value`` in place; returns the dotted key."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: write key.path=value, as in --set distill.student.kind=bilstm")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None
    set_key(values, key, value, f"--set {override}")
    return key


def set_key(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set what is under a dotted key in place; raises ConfigError, which ``where`` begins, where a single value stands above it."""
    *parents, last = key.split(".")
    block = values
    for depth, part in enumerate(parents, start=1):
        if block.get(part) is None:
            block[part] = {}
        block = block[part]
        if not isinstance(block, dict):
            raise ConfigError(f"{where}: {'.'.join(parents[:depth])} is a single value and has no keys below it")
    block[last] = value


# --- printing it back ------------------------------------------------------------------------------------------------


def describe(config: RunConfig, settled: RunConfig | None = None) -> str:
    """The resolved configuration as YAML, each key under a comment that says what it means; it loads to the same values.

    Parameters
    ----------
    config : RunConfig
    settled : RunConfig, optional
        The same with numbers in place of ``auto``, which are then told beside it.

    Examples
    --------
    >>> config = RunConfig.model_validate({"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}})
    >>> print(describe(config).splitlines()[1])
    name: demo
    """
    return "\n".join(_lines(config, config if settled is None else settled, 0)) + "\n"


def _lines(block: BaseModel, settled: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for (key, field), name in zip(keys_of(type(block)).items(), type(block).model_fields, strict=True):
        value = getattr(block, name)
        if depth == 0 and isinstance(value, BaseModel):
            yield ""
        yield f"{indent}# {field.description}" if field.description else f"{indent}# (no description)"
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:"
            yield from _lines(value, getattr(settled, name), depth + 1)
        else:
            number = getattr(settled, name)
            yield f"{indent}{key}: {scalar(value)}{f'  # here {scalar(number)}' if is_auto(value) and number != value else ''}"
            of_values = block_of(field.annotation)  # a block that is absent, or each of a list
            for inner, inner_field in keys_of(of_values).items() if of_values else ():
                yield f"{indent}#   {inner}: {inner_field.description}"


def scalar(value: Any) -> str:
    """One value in YAML's flow style.

    Examples
    --------
    >>> from datetime import timedelta
    >>> scalar(timedelta(hours=36)), scalar([0.8, 0.2]), scalar(None)
    ('36h', '[0.8, 0.2]', 'null')
    """
    text = yaml.safe_dump(_plain(value), default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("...").rstrip()


def _plain(value: Any) -> Any:
    """What YAML knows, as a configuration says it; of a block the keys that were set."""
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f" if value.microsecond else "%Y-%m-%dT%H:%M")
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True, exclude_unset=True))
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
