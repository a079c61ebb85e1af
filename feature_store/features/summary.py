"""``summary.json`` of an assembly of clicks: how its rows were made, and how many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, ClassVar, Self

from pydantic import Field, PlainSerializer

from feature_store.config import AssemblyConfig
from feature_store.config_statistics import StatisticsConfig
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.tables.contracts import ContextNames, LoggedScore
from feature_store.tables.json_models import IsoTime, JsonFile, JsonModel
from feature_store.tables.multi_values import named_by

_PLAIN = PlainSerializer(lambda config: config.model_dump(mode="json"))  # of settings inside a file


class SplitTimes(JsonModel):
    """Boundaries of the splits, UTC. ``train_from`` None is the beginning of the log; all other ends are exclusive."""

    train_from: IsoTime | None
    train_until: IsoTime
    validate_until: IsoTime
    test_until: IsoTime


class SupportShares(JsonModel):
    """Rows of both classes by the clicks on their item in the candidates' window.

    See :class:`~feature_store.features.negative_sampling.Support`.

    Attributes
    ----------
    counts : list of str
        Names of the buckets of clicks.
    clicked_share, sampled_share : list of float, optional
        Share of the class in each bucket; None for a class without rows.
    auc_of_count_zero : float, optional
        AUC of the rule "no click in the window means clicked"; None where a class has no rows.
    """

    counts: list[str]
    clicked_share: list[float] | None
    sampled_share: list[float] | None
    auc_of_count_zero: float | None


class CandidateSummary(JsonModel):
    """How candidates were sampled; a log with impressions has ``sampled`` alone.

    Attributes
    ----------
    sampled : bool
    per_click, by, window, seed : int, str, str, int
        The settings.
    short : int
        Requests with fewer candidates than asked for.
    support : SupportShares
    """

    sampled: bool
    per_click: int | None = None
    by: str | None = None
    window: str | None = None
    seed: int | None = None
    short: int | None = None
    support: SupportShares | None = None


class HistoryLimits(JsonModel):
    """Newest clicks kept of a history, and the fewest that a request must have."""

    max_length: int
    min_length: int


class ClickSummary(JsonFile):
    """Splits, counts, columns, what was left out, and the check of negative sampling.

    Attributes
    ----------
    split : SplitTimes
    rows, positives, requests : dict of str to int
        By split.
    users, items, clicks : int
    unseen_item_share : float
        Share of the test rows whose item has no token.
    new_item_share : float
        The same of the validation rows; 0 in an assembly of an earlier release, which did not count them.
    excluded : dict of str to int
        Requests that have no rows, by reason.
    candidates : CandidateSummary
    statistics : list of str
        Columns of historical features.
    context : ContextNames
        The categorical facts among them.
    item_attributes, user_attributes : list of str
    history : HistoryLimits
    has_impressions : bool
        The log has rows that were not clicked.
    oracle : bool
        The log has the probability of each click.
    as_of : datetime
        No event at this time or later was used.
    negative_sampling_rate : float, optional
        Share of the rows without a click that the log kept; None where it kept all.
    made_with : StatisticsConfig, optional
        Settings of the statistics, what ``statistics.auto`` added among them; None in an assembly of release 0.2.
    categorical_facts : list of str
        Categorical columns that rows looked up in dated tables of items and users.
    item_vectors, user_vectors : dict of str to int
        Columns of vectors, and how wide they are.
    title_encoder : str, optional
        Digest of what made vectors of titles.
    weighted : bool
        Rows have a column ``row_weight``: how much each counts in losses, metrics and calibration.
    history_types : dict of str to int
        Codes of the types of events in histories, by name, where they are several: the click pool has them in ``type_code``.
    labels : list of str
        Further labels beside the click: rows have a column ``label_NAME`` of each, null where it is not known.
    scores : list of LoggedScore
        What other models said of the rows.
    teacher_state : TeacherStateConfig, optional
        Settings of the teacher's states that rows read, with the name of the encoder; None where they read none.
    """

    FILE: ClassVar[str] = "summary.json"

    split: SplitTimes
    rows: dict[str, int]
    positives: dict[str, int]
    requests: dict[str, int]
    users: int
    items: int
    clicks: int
    unseen_item_share: float
    excluded: dict[str, int]
    candidates: CandidateSummary
    statistics: list[str]
    context: ContextNames
    item_attributes: list[str]
    user_attributes: list[str] = Field(default_factory=list)
    history: HistoryLimits
    has_impressions: bool
    oracle: bool
    as_of: IsoTime
    negative_sampling_rate: float | None = None
    categorical_facts: list[str] = Field(default_factory=list)
    item_vectors: dict[str, int] = Field(default_factory=dict)
    user_vectors: dict[str, int] = Field(default_factory=dict)
    title_encoder: str | None = None
    weighted: bool = False
    history_types: dict[str, int] = Field(default_factory=dict)
    labels: list[str] = Field(default_factory=list)
    scores: list[LoggedScore] = Field(default_factory=list)
    made_with: Annotated[StatisticsConfig, _PLAIN] | None = None
    teacher_state: Annotated[TeacherStateConfig, _PLAIN] | None = None
    new_item_share: float = 0.0

    def without(self, columns: Collection[str]) -> Self:
        """What is left for a reader that does not see some columns: their names are in no list; of several values all places go."""
        if not columns:
            return self

        def kept(names: Iterable[str]) -> list[str]:
            return [name for name in names if named_by(name) not in columns and name not in columns]

        lists = ("statistics", "item_attributes", "user_attributes", "categorical_facts")
        context = ContextNames(categorical=kept(self.context.categorical), dense=kept(self.context.dense))
        widths = {
            kind: {name: getattr(self, kind)[name] for name in kept(getattr(self, kind))} for kind in ("item_vectors", "user_vectors")
        }
        hidden = any(name.startswith("teacher_state_") for name in columns)
        narrowed = {"context": context, **{name: kept(getattr(self, name)) for name in lists}, **widths}
        return self.model_copy(update=narrowed | ({"teacher_state": None} if hidden else {}))

    def assembly(self, config: AssemblyConfig) -> AssemblyConfig:
        """Settings of further rows like these: of the statistics those of the assembly, where ``statistics.auto`` may have added some, and
        states of the same encoder."""
        config = config if self.made_with is None else config.model_copy(update={"statistics": self.made_with})
        return config if config.teacher_state is None else config.model_copy(update={"teacher_state": self.teacher_state})
