"""Typed settings of the feature store: what a YAML file may say about a log and how rows are made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from feature_store.config_statistics import StatisticsConfig
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.config_types import AUTO, OR_AUTO, Config, Duration, Time, duration_text, is_url, parse_duration, parse_time
from feature_store.plugins import PluginError, load_class, plugin_digest

_SECRET = re.compile(r"secret|password|token|credential|access-?_?key", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"://[^/]*:[^/]*@")
EVENT_PLACES = ("path", "since", "delta", "version", "iceberg", "catalog", "snapshot", "as_of")
"""Keys of the events that say where they are, and not what they are."""


class EventTypes(Config):
    """A log of several types of events, such as views, clicks, carts and purchases, told by a column or by their files."""

    column: str | None = Field(None, description="column with the type of each event; or files")
    files: dict[str, str] = Field(
        default_factory=dict,
        description="in place of column and of events.path: files below the data folder, as globs, with the type that each holds",
    )
    label: str = Field(description="the type that is a click: what models predict")
    shown: str | None = Field(
        None,
        description="the type that was shown and not clicked; absent means a log of clicks only, for which candidates are sampled",
    )
    history: list[str] = Field(default_factory=list, description="types that make up the history of a user; empty is the label alone")
    counted: list[str] = Field(default_factory=list, description="further types that statistics.of may count; all others are left out")

    @property
    def names(self) -> list[str]:
        """What is kept besides what was shown, the label first."""
        return list(dict.fromkeys([self.label, *self.history, *self.counted]))

    @model_validator(mode="after")
    def _types_are_told_in_one_way(self) -> Self:
        if (self.column is None) == (not self.files):
            raise ValueError("name what tells the types in one way: column, or files")
        if self.shown in self.names:
            raise ValueError(f"shown ({self.shown}) is what was not clicked: it is no label, no history and not counted")
        taken = next((kind for kind in self.names[1:] if kind in ("clicks", "impressions")), None)
        if taken is not None:
            raise ValueError(f"a type beside the label cannot be called {taken!r}, which statistics have for others: rename it")
        strange = next((kind for kind in self.files.values() if kind != self.shown and kind not in self.names), None)
        if strange is not None:
            raise ValueError(
                f"files holds {strange!r}, which is none of label, shown, history and counted: name it there, or remove the files"
            )
        lacking = next(
            (kind for kind in [*self.names, self.shown] if self.files and kind is not None and kind not in self.files.values()), None
        )
        if lacking is not None:
            raise ValueError(f"no files hold {lacking!r}: name some")
        return self


class EventColumns(Config):
    path: str | None = Field(
        None, description="files of the click log below the data folder, as a glob; .csv, .csv.gz, .tsv or .parquet; or delta, or iceberg"
    )
    since: Time | None = Field(
        None,
        description="path: folders that name an earlier date, as dt=2026-10-01, are not read; what was read before stays in the store",
    )
    delta: str | None = Field(
        None, description="in place of path: folder of a Delta Lake table below the data folder, or its URL; needs extra delta"
    )
    version: int | None = Field(None, ge=0, description="delta: version of the table that is read; null is the newest")
    iceberg: str | None = Field(
        None, description="in place of path: an Iceberg table of a catalogue, as namespace.table; needs extra iceberg"
    )
    catalog: dict[str, str] = Field(
        default_factory=dict,
        description="iceberg: what PyIceberg is told of the catalogue, such as name, type, uri and warehouse, but no credentials; empty "
        "takes its own settings, of .pyiceberg.yaml or the environment",
    )
    snapshot: int | None = Field(None, ge=0, description="iceberg: id of the snapshot that is read; null is the current one")
    as_of: Time | None = Field(None, description="delta and iceberg: the version or snapshot that was the newest at this time is read")
    user: str = Field(description="column with the user id")
    item: str = Field(description="column with the item id")
    time: str = Field(description="column with the event time: a timestamp, ISO text, or s, ms, us or ns since 1970 UTC")
    clicked: str | None = Field(None, description="column with 0 or 1; absent means a log of clicks only, for which candidates are sampled")
    type: EventTypes | None = Field(None, description="in place of clicked: what each row of a log of several types of events is")
    request: str | None = Field(None, description="column that names the request (impression) that a row belongs to")
    ingested: str | None = Field(None, description="column with the time at which the row became known; absent means its event time")
    weight: str | None = Field(
        None,
        description="column with how much the row counts in losses, metrics and calibration: a number that is not negative; absent means "
        "all alike",
    )
    negative_sampling_rate: str | None = Field(
        None,
        description="column with the share of the rows without a click that the log kept of rows like this one, where it was thinned by "
        "more than one rate: each then counts one over its rate; above 0 and at most 1, of a click without effect",
    )

    labels: dict[str, str] = Field(
        default_factory=dict,
        description="further labels beside clicked, such as purchased: columns of 0 and 1, null where it is not known; a list of columns, "
        "or {NAME: COLUMN}",
    )

    scores: dict[str, str | None] = Field(
        default_factory=dict,
        description="columns with what other models said of the rows, each with the column of the time at which that was known, or null; "
        "no model reads them, but a teacher may repeat them. Those that a teacher names are kept by themselves; those named here stay in "
        "the store when that teacher goes. Null where a file lacks them",
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _a_list_names_columns_by_themselves(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list) else value

    @field_validator("labels")
    @classmethod
    def _columns_can_be_named_by_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if re.fullmatch(r"[A-Za-z0-9_]+", name) is None:
                raise ValueError(f"{name!r} is no name of a label, which has letters, digits and _ alone: write {{NAME: {name!r}}}")
        return value

    @field_validator("scores")
    @classmethod
    def _columns_can_be_named_by_scores(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        strange = next((name for name in value if re.fullmatch(r"[A-Za-z0-9_]+", name) is None), None)
        if strange is not None:
            raise ValueError(f"a column of scores has a name of letters, digits and _ alone: rename {strange!r} in the log")
        return value

    @model_validator(mode="before")
    @classmethod
    def _a_column_of_types_may_stand_alone(cls, values: Any) -> Any:
        """``type: COLUMN`` with ``label``, ``shown``, ``history`` and ``counted`` beside it stands for ``type: {column: COLUMN, ...}``."""
        if not isinstance(values, dict) or not isinstance(values.get("type"), str):
            return values
        said = {name: values[name] for name in ("label", "shown", "history", "counted") if name in values}
        rest = {name: value for name, value in values.items() if name not in said}
        return rest | {"type": {"column": values["type"], "label": "click", **said}}

    @property
    def clicks_only(self) -> bool:
        """Whether nothing says what was shown and not clicked."""
        return self.clicked is None and (self.type is None or self.type.shown is None)

    @property
    def weights(self) -> dict[str, str]:
        """Columns that say how much rows count, by their names in a raw batch; of most logs none."""
        columns = {"row_weight": self.weight, "negative_sampling_rate": self.negative_sampling_rate}
        return {name: raw for name, raw in columns.items() if raw is not None}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        files = None if self.type is None else self.type.files or None
        if sum(place is not None for place in (self.path, self.delta, self.iceberg, files)) != 1:
            raise ValueError("name where the events are in one way: path, or delta, or iceberg, or type.files")
        if self.type is not None and self.clicked is not None:
            raise ValueError("clicked and type both say what a click is; remove one of them")
        own = {
            "since": self.path or files,
            "version": self.delta,
            "catalog": self.iceberg,
            "snapshot": self.iceberg,
            "as_of": self.delta or self.iceberg,
        }
        idle = next((key for key, table in own.items() if table is None and getattr(self, key) not in (None, {})), None)
        if idle is not None:
            raise ValueError(
                f"{idle} has no effect on events of {'path' if self.path else 'delta' if self.delta else 'iceberg'}; remove it"
            )
        if self.as_of is not None and (self.version is not None or self.snapshot is not None):
            raise ValueError(f"as_of and {'version' if self.delta else 'snapshot'} both say what is read; remove one of them")
        if self.delta is not None and _WITH_PASSWORD.search(self.delta):
            raise ValueError("delta must be a URL without credentials; give them in the environment")
        if any(_SECRET.search(key) or _WITH_PASSWORD.search(value) for key, value in self.catalog.items()):
            raise ValueError("catalog must hold no credentials; give them in the environment, as in PYICEBERG_CATALOG__NAME__KEY")
        return self


def _listed(value: Any) -> Any:
    """One name stands for a list of it, and null for none."""
    return [] if value is None else [value] if isinstance(value, str) else value


class EntityColumns(Config):
    """What the tables of items and of users have in common."""

    path: str = Field(description="files below the data folder, as a glob; or a URL of files, such as s3://bucket/catalogue/*.parquet")
    categorical: list[str] = Field(
        default_factory=list,
        description="columns with few values; of candidates and clicked items alike, of a dated table of candidates alone",
    )
    multi: list[str] = Field(
        default_factory=list,
        description="columns that hold several values a row, such as genres or interests: lists, or text with a separator",
    )
    separator: str = Field("|", min_length=1, max_length=5, description="what stands between the values of multi, where they are text")
    dense: list[str] = Field(
        default_factory=list, description="numeric columns; a dated table says what they were at the time of a request"
    )
    vector: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="columns, or one, that hold a vector a row, made elsewhere of a title or an image: lists of numbers, of one length",
    )
    time: str | None = Field(
        None,
        description="column with the time from which on a row holds: of several rows of one item or user a request reads the newest before "
        "it; absent means one row each, which always held",
    )

    @model_validator(mode="after")
    def _several_values_always_hold(self) -> Self:
        for name in ("multi", "vector"):
            if getattr(self, name) and self.time is not None:
                raise ValueError(f"{name} columns always hold: a dated table (`time`) has categorical and dense ones")
        return self


class TitleEncoder(Config):
    """What makes a vector of each title."""

    encoder: str = Field(
        description="folder of a Hugging Face BERT below the data folder, with config.json, vocab.txt and the weights; package:NAME/PATH "
        "is one in an installed Python package"
    )
    max_length: int = Field(64, ge=1, le=512, description="tokens that are read of a title, its first ones")


class EncodedTitle(TitleEncoder):
    column: str = Field(description="column with the item's title")


class ItemColumns(EntityColumns):
    item: str = Field(description="column with the item id")
    text: str | EncodedTitle | None = Field(
        None,
        description="column with the item's title, kept in the store for people; or {column, encoder}, so that models read a vector of it, "
        "title_vector",
    )

    @property
    def title(self) -> str | None:
        """The column with the title."""
        return self.text.column if isinstance(self.text, EncodedTitle) else self.text


class UserColumns(EntityColumns):
    user: str = Field(description="column with the user id")


class ContextColumns(Config):
    categorical: list[str] = Field(default_factory=list, description="context columns of the events with few values, such as a device")
    dense: list[str] = Field(default_factory=list, description="numeric context columns of the events")
    optional: list[str] = Field(
        default_factory=list, description="those of them that a file may lack, such as columns that came later: they are null there"
    )

    @model_validator(mode="after")
    def _optional_are_some_of_them(self) -> Self:
        strange = next((name for name in self.optional if name not in (*self.categorical, *self.dense)), None)
        if strange is not None:
            raise ValueError(f"optional names {strange!r}, which is in neither categorical nor dense; add it to one of them")
        return self


class SimulatorConfig(Config):
    users: int = Field(3000, ge=2, description="users of the simulated click world")
    items: int = Field(2000, ge=10, description="items of the simulated click world")
    categories: int = Field(20, ge=2, description="item categories")
    days: int = Field(14, ge=1, description="days that the log covers")
    requests: int = Field(60_000, ge=10, description="requests (lists of impressions) over all days")
    candidates: int = Field(6, ge=2, description="items shown in one request")
    item_life: Duration = Field(parse_duration("10d"), description="mean life of an item; shorter means more unseen items tomorrow")
    seed: int = Field(7, ge=0, description="seed of the simulated world")
    start: Time = Field(parse_time("2024-01-01"), description="first day of the log")
    item_spread: float = Field(
        0.3,
        ge=0,
        description="how far what an item is about lies from the centre of its subcategory, whose length is 1: no attribute tells it",
    )
    vectors: int = Field(
        0, ge=0, le=4096, description="width of a vector of each item, a noisy picture of what it is about, as a title's would be; 0: none"
    )
    clicks_only: bool = Field(False, description="drop the impressions without a click, as in a log that records clicks only")

    @model_validator(mode="after")
    def _possible_world(self) -> SimulatorConfig:
        if self.candidates > self.items:
            raise ValueError(f"candidates ({self.candidates}) cannot exceed items ({self.items}): lower candidates or raise items")
        if self.start + timedelta(days=self.days) > datetime.now(UTC):
            raise ValueError("the simulated log must lie in the past: choose an earlier start or fewer days")
        return self


Position = Annotated[int, Field(ge=0, strict=True)]
TextColumn = Position | str
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")


class TextColumns(Config):
    text: TextColumn = Field(description="column of the text, by position or by name")
    text_b: TextColumn | None = Field(None, description="column of the second text of a pair")


READER_NAMES = ("simulated", "globo", "mind", "movielens", "s3rec", "tabular", "text")
"""Readers that come with the project; others are plug-ins."""


def reader_plugin(name: str) -> type[Any]:
    """Class of a reader of another package.

    Raises
    ------
    PluginError
        When there is none of that name, or it is not what :class:`feature_store.tables.contracts.LogReader` says.
    """
    plugin = load_class("ctr_kd.readers", name, ("files", "contract", "read"), READER_NAMES)
    settings = getattr(plugin, "Settings", SourceConfig)
    if not (isinstance(settings, type) and issubclass(settings, SourceConfig)):
        raise PluginError(f"the reader {name!r} has settings that are no class on top of SourceConfig: {settings!r}"[:300])
    return plugin


def _is_a_reader(name: str) -> str:
    if name not in READER_NAMES:
        reader_plugin(name)
    return name


class SourceConfig(Config):
    reader: Annotated[str, AfterValidator(_is_a_reader)] = Field(
        description="layout of the raw log: simulated, globo, mind, movielens, s3rec, tabular, text, or that of a plug-in"
    )
    events: EventColumns | None = Field(None, description="tabular: where the columns of the log are")
    items: ItemColumns | None = Field(None, description="tabular: where the items and their attributes are")
    users: UserColumns | None = Field(None, description="tabular: where the users and their attributes are")
    context: ContextColumns = Field(ContextColumns(), description="tabular: context columns of the log")
    labels: dict[str, str] | None = Field(
        None,
        description="tabular: the column of each label, {clicked: COLUMN, NAME: COLUMN}, where there are several: another way to write "
        "events.clicked and events.labels, as which it is read",
    )
    simulator: SimulatorConfig = Field(SimulatorConfig(), description="simulated: size and seed of the click world")
    titles: TitleEncoder | None = Field(
        None, description="mind: {encoder}, so that models read a vector of each title, title_vector; tabular has it in items.text"
    )
    click_rating: float = Field(4.0, description="movielens: a rating from here on is a click")
    name: str | None = Field(None, pattern=r"^\w[\w.-]*$", description="s3rec: the set, such as Beauty for the file Beauty.txt")
    attribute_columns: int = Field(
        6, ge=0, le=64, description="s3rec: columns over which an item's list of attributes is spread; 0 leaves them out"
    )
    train: str | None = Field(
        None, description="text: file of labelled training rows below the data folder; .tsv, .txt, .json or .jsonl, also gzipped"
    )
    validation: str | None = Field(None, description="text: file of labelled validation rows; null sets a share of train apart")
    test: str | None = Field(None, description="text: file of labelled test rows")
    unlabelled: str | None = Field(None, description="text: file of texts without labels, for pretraining and as transfer set")
    unlabelled_columns: TextColumns | None = Field(
        None, description="text: columns of that file where they are others than text and text_b below; needed where its format is another"
    )
    text: TextColumn = Field(0, description="text: column of the text; a position counts from 0, a name needs a header or JSON keys")
    text_b: TextColumn | None = Field(None, description="text: column of the second text of a pair")
    label: TextColumn = Field(1, description="text: column of the label, the name or number of a class")
    class_names: str | None = Field(None, description="text: file that names the classes of labels 0, 1, ..., one a line")
    validation_share: float = Field(0.1, gt=0, lt=1, description="text: share of train set apart; equal texts stay on one side")
    seed: int = Field(0, ge=0, description="text: seed of that share")
    negative_sampling_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the rows without a click that the log kept, where it was thinned before: probabilities and the figures about "
        "them are then those of the full stream. null: all; not for a log of clicks only",
    )
    bad_rows_limit: float = Field(0.01, ge=0, le=1, description="share of rows that may break the contract before the stage fails")

    @model_validator(mode="before")
    @classmethod
    def _labels_are_columns_of_events(cls, values: Any) -> Any:
        """``labels: {clicked: COLUMN, NAME: COLUMN}`` stands for ``clicked`` and ``labels`` of ``events``."""
        if not isinstance(values, dict) or values.get("labels") is None:
            return values
        labels, events = values["labels"], values.get("events")
        if not isinstance(labels, dict) or "clicked" not in labels:
            raise ValueError("labels names the column of each label, clicked among them: {clicked: COLUMN, NAME: COLUMN}")
        if not isinstance(events, dict):
            raise ValueError("labels are columns of `events` of reader tabular: name path, user, item and time there")
        if events.get("clicked") is not None or events.get("labels"):
            raise ValueError("labels stands for events.clicked and events.labels: remove these, or labels")
        further = {name: column for name, column in labels.items() if name != "clicked"}
        rest = {name: value for name, value in values.items() if name != "labels"}
        return {**rest, "events": {**events, "clicked": labels["clicked"], "labels": further}}

    @classmethod
    def reads(cls, values: Any) -> type[SourceConfig]:
        """The class that reads a block of settings, by the reader in it."""
        name = values.get("reader") if isinstance(values, dict) else None
        if not isinstance(name, str) or name in READER_NAMES:
            return SourceConfig
        try:
            return getattr(reader_plugin(name), "Settings", SourceConfig)
        except PluginError:
            return UnknownSource

    def with_copies(self, copies: Mapping[str, str]) -> SourceConfig:
        """The same with patterns of copies in place of the URLs of ``items`` and ``users``."""
        blocks = {kind: getattr(self, kind).model_copy(update={"path": pattern}) for kind, pattern in copies.items()}
        return self.model_copy(update=blocks)

    @property
    def title_encoder(self) -> TitleEncoder | None:
        """What makes vectors of titles, where something does."""
        if self.reader == "mind":
            return self.titles
        return self.items.text if self.items is not None and isinstance(self.items.text, EncodedTitle) else None

    def log(self) -> dict[str, Any]:
        """Settings that decide what a store holds, under dotted names, defaults left out.

        Where files lie, what they may lack, how many bad rows they may hold, how thinned they are is not among them: another pattern names
        more of the same log.

        Examples
        --------
        >>> SourceConfig(reader="tabular", events=EventColumns(path="*.csv", user="u", item="i", time="t"), bad_rows_limit=0.5).log()
        {'reader': 'tabular', 'events.user': 'u', 'events.item': 'i', 'events.time': 't'}
        """
        values = self.model_dump(
            mode="json",
            exclude_defaults=True,
            exclude={
                "bad_rows_limit": True,
                "negative_sampling_rate": True,
                "context": {"optional"},
                "events": {**dict.fromkeys(EVENT_PLACES, True), "type": {"files"}},
                "items": {"path"},
                "users": {"path"},
            },
        )
        made_of_titles = ("items.text.encoder", "items.text.max_length", "titles.encoder", "titles.max_length")  # the ledger tells of them
        known = {name: value for name, value in _flat(values) if name not in made_of_titles}
        known |= {"titles": True} if self.titles is not None else {}
        # Of another source it may read other rows, and only a person knows: what a store holds is not to be replaced without asking.
        return known if self.reader in READER_NAMES else known | {"plugin": plugin_digest("ctr_kd.readers", self.reader)[:12]}

    @property
    def needs_folder(self) -> bool:
        """Whether files below a data folder are read: none are of the simulated log, and of an Iceberg table alone."""
        if self.events is not None and self.events.iceberg is not None:
            return any(block is not None and not is_url(block.path) for block in (self.items, self.users))
        return self.reader != "simulated"

    @model_validator(mode="after")
    def _tabular_names_its_events(self) -> SourceConfig:
        if self.reader == "tabular" and self.events is None:
            raise ValueError("reader tabular needs `events` with path, user, item and time")
        return self

    @model_validator(mode="after")
    def _a_thinned_log_has_rows_without_a_click(self) -> SourceConfig:
        if self.negative_sampling_rate is None:
            return self
        if self.reader == "text":
            raise ValueError("negative_sampling_rate has no effect on texts; remove it")
        clicks_only = {"tabular": self.events is not None and self.events.clicks_only, "simulated": self.simulator.clicks_only}
        if clicks_only.get(self.reader, self.reader in ("globo", "s3rec")):
            raise ValueError("negative_sampling_rate is of a log that holds rows without a click; this one holds clicks only: remove it")
        return self

    @model_validator(mode="after")
    def _titles_are_those_of_mind(self) -> SourceConfig:
        if self.titles is not None and self.reader != "mind":
            raise ValueError("titles is of reader mind; of a tabular log write items.text: {column: ..., encoder: ...}")
        return self

    @model_validator(mode="after")
    def _one_rate_or_one_of_each_row(self) -> SourceConfig:
        if self.events is None or self.events.negative_sampling_rate is None:
            return self
        if self.negative_sampling_rate is not None:
            raise ValueError("negative_sampling_rate is said twice, as a number and as a column of events: remove one of them")
        if self.events.clicks_only:
            raise ValueError(
                "events.negative_sampling_rate is of a log that holds rows without a click; this one holds clicks only: remove it"
            )
        return self

    @model_validator(mode="after")
    def _further_labels_are_of_impressions(self) -> SourceConfig:
        if self.events is None or not self.events.labels:
            return self
        if self.events.clicks_only:
            raise ValueError(
                "events.labels stand beside events.clicked, and this log holds clicks only: name the column of clicks, or remove"
            )
        if self.negative_sampling_rate is not None:
            raise ValueError(
                "negative_sampling_rate corrects the scores of clicks alone, and there are events.labels: name a column that has each "
                "row's rate in events.negative_sampling_rate"
            )
        read = {*self.context.categorical, *self.context.dense}
        leaked = next((name for name, column in self.events.labels.items() if column in read), None)
        if leaked is not None:
            raise ValueError(
                f"events.labels: the column of {leaked} is a context column too, which tells models the label: remove it there"
            )
        return self

    @model_validator(mode="after")
    def _scores_are_of_impressions(self) -> SourceConfig:
        if self.events is None or not self.events.scores:
            return self
        if self.events.clicks_only:
            raise ValueError(
                "events.scores are of rows that were shown, and this log holds clicks only: give the scores of its candidates in files"
            )
        told = {self.events.clicked, *self.events.labels.values(), *self.events.weights.values()}
        told |= set() if self.events.type is None else {self.events.type.column}
        label = next((name for name in self.events.scores if name in told), None)
        if label is not None:
            raise ValueError(f"events.scores: {label} says what happened, and not what a model expected: name another column")
        read = {*self.context.categorical, *self.context.dense}
        twice = next((name for name in self.events.scores if name in read), None)
        if twice is not None:
            raise ValueError(
                f"events.scores: {twice} is a context column too, which every model reads: remove it there, or let no teacher repeat it"
            )
        return self

    @model_validator(mode="after")
    def _s3rec_names_its_set(self) -> SourceConfig:
        if self.reader == "s3rec" and self.name is None:
            raise ValueError("reader s3rec needs `name`, the file's name without .txt")
        return self

    @model_validator(mode="after")
    def _texts_name_their_files(self) -> SourceConfig:
        if self.reader != "text":
            return self
        if self.train is None or self.test is None:
            raise ValueError("reader text needs `train` and `test`, files below the data folder")
        files = [file for file in (self.train, self.validation, self.test, self.unlabelled) if file is not None]
        if len(set(files)) < len(files):
            raise ValueError(
                "train, validation, test and unlabelled must be different files: what is trained on tells nothing about the rest"
            )
        _columns_fit({"text": self.text, "text_b": self.text_b, "label": self.label})
        return self

    @model_validator(mode="after")
    def _unlabelled_has_columns(self) -> SourceConfig:
        own = self.unlabelled_columns
        if self.reader != "text" or self.unlabelled is None:
            if own is not None:
                raise ValueError("unlabelled_columns has no effect without reader: text and an unlabelled file; remove it")
            return self
        is_json = [(file or "").removesuffix(".gz").endswith(JSON_ENDINGS) for file in (self.train, self.unlabelled)]
        if own is None and is_json[0] != is_json[1]:
            raise ValueError(f"unlabelled {self.unlabelled} has another format than train {self.train}: name its unlabelled_columns")
        if own is not None:
            if (own.text_b is None) != (self.text_b is None):
                raise ValueError("unlabelled_columns must have a text_b where source has one, and none where it has none")
            _columns_fit({"unlabelled_columns.text": own.text, "unlabelled_columns.text_b": own.text_b})
        return self


class UnknownSource(SourceConfig):
    """Settings of a reader that there is not: its name alone is wrong, since what keys it has nobody knows."""

    model_config = ConfigDict(extra="allow")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _columns_fit(named: dict[str, TextColumn | None]) -> None:
    """Raises ValueError unless the columns are different ones and all by position or all by name; None is no column."""
    columns = {key: column for key, column in named.items() if column is not None}
    *others, last = named
    keys = f"{', '.join(others)} and {last}"
    if len({type(column) for column in columns.values()}) > 1:
        raise ValueError(f"name {keys} all by position or all by name")
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"{keys} must be different columns")


class SplitConfig(Config):
    """Time split, in one of four ways: absolute boundaries, windows up to the logical time, fractions in time order, or leave-one-out."""

    train_from: Duration | Time | None = Field(
        None, description="labels start here: a time, or a duration before train_until; histories are not cut"
    )
    train_until: Time | None = Field(None, description="end of the training window, exclusive, UTC")
    validate_until: Time | None = Field(None, description="end of the validation window, exclusive, UTC")
    test_until: Time | None = Field(None, description="end of the test window, exclusive, UTC")
    train: Duration | None = Field(None, description="length of the training window that ends where validation starts")
    validation: Duration | None = Field(None, description="length of the validation window that ends where test starts")
    test: Duration | None = Field(None, description="length of the test window that ends at the logical time of a run")
    fractions: tuple[float, float, float] | None = Field(None, description="shares of the requests in time order: train, validation, test")
    leave_one_out: bool = Field(
        False, description="test is the newest moment of the log, validation the one before; s3rec: everyone's last click and second last"
    )

    @model_validator(mode="after")
    def _one_way(self) -> SplitConfig:
        absolute = [self.train_until, self.validate_until, self.test_until]
        relative = [self.train, self.validation, self.test]
        ways = [any(v is not None for v in absolute), any(v is not None for v in relative), self.fractions is not None, self.leave_one_out]
        if sum(ways) != 1:
            raise ValueError(
                "name the split in one way: train_until, validate_until, test_until; or train, validation, test; or fractions; "
                "or leave_one_out: true"
            )
        for values, names in ((absolute, "train_until, validate_until and test_until"), (relative, "train, validation and test")):
            if any(v is not None for v in values) and any(v is None for v in values):
                raise ValueError(f"the split needs all of {names}")
        if ways[0] and not self.train_until < self.validate_until < self.test_until:  # type: ignore[operator]
            raise ValueError("the split must be in time order: train_until < validate_until < test_until")
        if self.fractions is not None and (min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6):
            raise ValueError("the three fractions must be above zero and add up to 1")
        return self


class CandidateConfig(Config):
    per_click: int = Field(4, ge=1, le=100, description="sampled candidates that were not clicked, per click (logs of clicks only)")
    by: Literal["popularity", "uniform"] = Field("popularity", description="draw by the clicks of the window, or uniformly from its items")
    window: Duration = Field(parse_duration("1h"), description="an item is live when it was clicked within this time before the request")
    seed: int = Field(11, description="seed of the candidate sampler")


class HistoryConfig(Config):
    max_length: int = Field(20, ge=1, le=512, description="newest clicks kept of a history")
    min_length: int = Field(0, ge=0, description="requests with fewer earlier clicks are left out of the rows, and counted")


class VocabularyConfig(Config):
    min_count: int = Field(5, ge=1, description="ids seen less often in the training window share the unknown token")
    max_size: int = Field(1_000_000, ge=10, description="most frequent ids kept per feature")


class TokenizerConfig(Config):
    kind: Literal["wordpiece", "characters", "words", "ngrams", "auto"] = Field(
        description="how a text is cut into tokens; words are those of jieba; auto: words where most letters of the training texts "
        "are ASCII, as of English, else ngrams"
    )
    vocabulary: str | None = Field(
        None,
        description="wordpiece: a vocab.txt below the data folder, or package:NAME/PATH; null fits one on the training texts",
    )
    min_count: int = Field(2, ge=1, description="tokens seen less often in the training texts share the unknown token")
    max_size: int = Field(1_000_000, ge=10, description="most frequent tokens kept")
    max_length: Annotated[int, Field(ge=1, le=4096), *OR_AUTO] = Field(
        AUTO,
        description="tokens kept of a text, its first ones; auto: as many as 99 % of the training texts have, of the teacher's, whose "
        "attention is dear, at most 250, of the student's 2,048",
    )
    keep_unknown: bool = Field(
        True,
        description="words, ngrams: a token that the vocabulary lacks is [UNK]; false: it is left out, as of TF-IDF, which suits a student "
        "that adds up what it reads",
    )
    lowercase: bool = Field(True, description="whether upper and lower case are the same; wordpiece: also letters with and without accents")
    lengths: tuple[int, int] = Field((1, 3), description="ngrams: characters of the shortest and of the longest, up to 3")
    buckets: int | None = Field(None, ge=2, le=1 << 24, description="ngrams: hash them into this many tokens; null counts them")
    vectors: str | None = Field(
        None, description="file below the data folder, or package:NAME/PATH, from which embeddings begin: word2vec, text or binary (.bin)"
    )

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> TokenizerConfig:
        fields = type(self).model_fields
        given = {name for name in fields if getattr(self, name) != fields[name].default}
        if self.vocabulary is not None and self.kind != "wordpiece":
            raise ValueError(f"vocabulary has no effect with kind: {self.kind}; remove it, or set kind: wordpiece")
        if given & {"lengths", "buckets"} and self.kind != "ngrams":
            raise ValueError(f"lengths and buckets have no effect with kind: {self.kind}; remove them, or set kind: ngrams")
        if given & {"min_count", "max_size"} and (self.vocabulary or self.buckets):
            raise ValueError("min_count and max_size have no effect where no vocabulary is fitted; remove them")
        if not 1 <= self.lengths[0] <= self.lengths[1] <= 3:
            raise ValueError("lengths must be two numbers from 1 to 3, the shorter first")
        if not self.keep_unknown and (self.kind not in ("words", "ngrams", "auto") or self.buckets):
            raise ValueError("keep_unknown: false is of kinds words and ngrams with a vocabulary; set keep_unknown: true")
        if self.vectors is not None and self.buckets is not None:
            raise ValueError("a bucket has no word vector; remove vectors or buckets")
        return self


class TokensConfig(Config):
    """Teacher and student may read the same texts differently."""

    teacher: TokenizerConfig = Field(TokenizerConfig(kind="wordpiece"), description="how the teacher reads texts")
    student: TokenizerConfig = Field(TokenizerConfig(kind="words"), description="how the student reads texts")


class AugmentationConfig(Config):
    """New texts made of the training texts, after Tang et al. 2019 (section 4.3); the teachers label them."""

    amount: float = Field(0.0, ge=0, le=50, description="new texts as a share of the training rows; 0 is off")
    mask_rate: float = Field(0.1, ge=0, le=1, description="share of words that are hidden")
    replace_rate: float = Field(0.1, ge=0, le=1, description="share of words that are replaced by one of the same part of speech")
    ngram_rate: float = Field(0.25, ge=0, le=1, description="share of texts of which one to five words in a row are kept")

    @model_validator(mode="after")
    def _changes_something(self) -> AugmentationConfig:
        if self.mask_rate + self.replace_rate > 1:
            raise ValueError("mask_rate and replace_rate are shares of the same words: together they must not exceed 1")
        if self.amount and not self.mask_rate + self.replace_rate + self.ngram_rate:
            raise ValueError("with all rates 0 no text is changed; set one of them, or amount: 0")
        return self


class SparkConfig(Config):
    master: str | None = Field(
        None,
        description="master of the Spark session: spark://HOST:PORT, yarn, k8s://HOST:PORT or local[CORES]; null is that of spark-submit, "
        "else all cores of this machine",
    )
    options: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="options of the session builder, as in {spark.executor.memory: 8g}"
    )

    @field_validator("master")
    @classmethod
    def _kind_is_known(cls, master: str | None) -> str | None:
        """Else Java says so, in a page of its own."""
        if master is not None and not re.fullmatch(r"local(\[.+\])?|spark://.+|k8s://.+|yarn", master):
            raise ValueError(f"{master!r} is no master of Spark; write spark://HOST:PORT, yarn, k8s://HOST:PORT or local[CORES]")
        return master


class FeatureStoreConfig(Config):
    engine: Literal["embedded", "spark"] = Field(
        "embedded", description="engine that runs the feature SQL: embedded is DuckDB in this process, spark a session of one's own"
    )
    spark: SparkConfig = Field(SparkConfig(), description="the Spark session, wherever an engine is spark")
    memory: str = Field("2GB", pattern=r"^\d+(\.\d+)?\s*[MG]B$", description="memory that the engine may take before it spills to disk")
    threads: int | None = Field(None, ge=1, description="threads of the engine; null takes all cores")
    chunk: int = Field(200_000, ge=1000, description="requests assembled at a time, which bounds the memory")


class EmbeddingsConfig(Config):
    """Item vectors that are learned in the order of time, block by block, and are facts as of a time like any count."""

    encoder: Literal["pooled", "bert"] = Field(
        "pooled",
        description="what makes a state of a history: pooled, a weighted mean of its newest clicks; bert, which adds what attention sees",
    )
    layers: int = Field(1, ge=1, le=12, description="of a bert")
    heads: int = Field(2, ge=1, le=64, description="of a bert; must divide the width")
    block: Duration | None = Field(
        None, description="clicks of so long are learned at a time, and known to later rows alone; null takes it from the pace of the log"
    )
    refresh: Duration | None = Field(
        None, description="how often production learns the newest clicks, which is what rows then see; null: every block"
    )
    replay: Duration | None = Field(
        None, description="with each block, half as many of the clicks of so long before it are learned again; null is 36 blocks"
    )
    passes: int = Field(2, ge=1, le=100, description="times that the clicks of a block are learned")
    width: int = Field(64, ge=8, le=1024, description="numbers in a vector")
    vectors: bool = Field(
        False,
        description="rows read the vectors of history and candidate too, a column for each number, not their product alone",
    )
    negatives: int = Field(128, ge=1, le=65536, description="clicks of the last blocks whose items each step tells the clicked ones from")
    learning_rate: float = Field(0.2, gt=0, description="rate of row-wise Adagrad")
    unknown_rate: float = Field(0.05, ge=0, lt=1, description="share of items that are read as one never seen, which trains its vector")
    stale_rate: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training requests that read older vectors, up to 36 blocks, as after refreshes that were missed: "
        "so models learn what their age means",
    )
    forget: Duration = Field(parse_duration("30d"), description="an item that nobody clicked for so long is one never seen again")
    keep: Duration = Field(
        parse_duration("14d"), description="files of each block are kept for so long, and longer where the training window begins before"
    )
    seed: int = Field(13, ge=0, lt=2**32, description="seed of the first vectors, the order of clicks and the negatives")

    @property
    def width_read(self) -> int:
        """Numbers of each vector that rows read; 0 where they read products alone."""
        return self.width if self.vectors else 0

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> EmbeddingsConfig:
        fields = type(self).model_fields
        if self.encoder != "bert" and any(getattr(self, name) != fields[name].default for name in ("layers", "heads")):
            raise ValueError("layers and heads are those of a bert: set encoder: bert, or remove them")
        if self.encoder == "bert" and self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the width ({self.width})")
        return self

    @model_validator(mode="after")
    def _refresh_is_of_blocks(self) -> EmbeddingsConfig:
        for name in ("refresh", "replay"):
            value = getattr(self, name)
            if value is not None and self.block is not None and (value < self.block or value % self.block):
                raise ValueError(f"{name} ({duration_text(value)}) must be some blocks long ({duration_text(self.block)} each)")
        return self


class AssemblyConfig(Config):
    """All that turns events into rows; the fingerprint of an assembly covers exactly these keys."""

    split: SplitConfig
    candidates: CandidateConfig = CandidateConfig()
    history: HistoryConfig = HistoryConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    embeddings: EmbeddingsConfig | None = None
    teacher_state: TeacherStateConfig | None = None
    negative_sampling_rate: float | None = None
