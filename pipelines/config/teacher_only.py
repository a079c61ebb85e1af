"""Typed settings of what teachers read and students do not: what is known after the fact, or costs too much to serve."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from ctr_kd.config import DistillConfig, FinetuneConfig, PretrainConfig
from feature_store.config import HistoryConfig, SourceConfig, SplitConfig
from feature_store.config_types import Config


class TeacherOnlyConfig(Config):
    """Inputs of the teachers alone (privileged features, Xu et al. 2020, arXiv:1907.05171)."""

    context: list[str] = Field(
        default_factory=list,
        description="context columns of the log, such as a position or a dwell time; with each, the statistics that are counted by it",
    )
    statistics: list[str] = Field(
        default_factory=list, description="columns of statistics, and numbers (dense) of items and users, as `ctr-kd features` names them"
    )
    categorical: list[str] = Field(default_factory=list, description="categorical attributes of items and users")
    multi: list[str] = Field(default_factory=list, description="attributes of items and users that hold several values")
    vector: list[str] = Field(default_factory=list, description="columns of vectors of items and users")
    future_clicks: int = Field(
        0,
        ge=0,
        le=512,
        description="clicks after the request, up to the end of training, that the BERT may read of training rows, in fine-tuning (where "
        "they are hidden half of the time, and hard negatives have them too) and when it labels them for the student; of validation and "
        "test rows it reads none; 0: none",
    )

    @property
    def named(self) -> dict[str, list[str]]:
        """The columns that are named, by key; of ``vector`` too."""
        return {key: getattr(self, key) for key in ("context", "statistics", "categorical", "multi", "vector") if getattr(self, key)}

    def misfits(
        self,
        source: SourceConfig,
        split: SplitConfig | None,
        history: HistoryConfig,
        *,
        pretrain: PretrainConfig,
        finetune: FinetuneConfig,
        distill: DistillConfig,
    ) -> Iterator[str]:
        """Why it does not go with the other blocks of a run of clicks."""
        if source.reader == "tabular":
            yield from self._unknown(source)
        alone = self._of_tokens(source)
        if distill.needs_encoder and alone:
            yield (
                f"hints and embeddings: teacher need tokens of the same features for both, and {alone[0]} is the teacher's alone: "
                "leave it out of teacher_only, or do without them"
            )
        if (self.named or self.future_clicks) and distill.weighting == "learned":
            yield "distill.weighting: learned weighs teachers by what students read, and teacher_only has them read more: let it be fixed"
        amounts = {"distill.transfer": distill.transfer.amount, "finetune.hard_negatives": finetune.hard_negatives.amount}
        for key in (key for key, amount in amounts.items() if amount and self.context):
            yield f"teacher_only.context is of rows that were shown, and those of {key}.amount never were: remove one of them"
        if not self.future_clicks:
            return
        if any(settings.encoder.attention == "causal" for settings in pretrain.of_each_encoder):
            yield "teacher_only.future_clicks needs a BERT that reads both ways: let pretrain.encoder.attention be bidirectional"
        if "bert" not in distill.teacher_weights:
            yield "teacher_only.future_clicks is of the BERT, and distill.teachers names none: remove one of them"
        if self.future_clicks > history.max_length:
            yield f"teacher_only.future_clicks ({self.future_clicks}) is above history.max_length ({history.max_length}): lower it"
        if split is not None and split.leave_one_out:
            yield "teacher_only.future_clicks needs windows of time: with split.leave_one_out what comes later is what is tested"

    def _of_tokens(self, source: SourceConfig) -> list[str]:
        """Names that are, or as far as is known before a log is read may be, features of the items in a history."""
        named = [*self.categorical, *self.multi, *self.vector]
        if source.reader != "tabular":
            return named
        items = source.items
        read = [] if items is None or items.time is not None else [*items.categorical, *items.multi, *items.vector, "title_vector"]
        return [name for name in named if name in read]

    def _unknown(self, source: SourceConfig) -> Iterator[str]:
        """Names that no column of a tabular log has; of statistics and vectors it is known once the rows are made."""
        from feature_store.tables.contracts import nearest  # a scheduler's environment has no pyarrow

        described = [block for block in (source.items, source.users) if block is not None]
        known = {"context": [*source.context.categorical, *source.context.dense]}
        known |= {key: [name for block in described for name in getattr(block, key)] for key in ("categorical", "multi")}
        for key, names in known.items():
            for name in getattr(self, key):
                if name not in names:
                    yield f"teacher_only.{key}: {name!r} is no such column of the log; {nearest(name, names)}"
