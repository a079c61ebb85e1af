"""A log of one's own: files of events, of items and of users, whose columns the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import EVENT_PLACES, EncodedTitle, EntityColumns, EventColumns, EventTypes, ItemColumns, SourceConfig, UserColumns
from feature_store.config_types import is_url
from feature_store.readers.base import (
    ENDINGS,
    data_files,
    data_folder,
    file_columns,
    folder_and_pattern,
    not_before,
    partition_values,
    read_partitioned,
    reader_fingerprint,
    relative,
)
from feature_store.readers.lake_tables import TableVersion, table_version
from feature_store.tables.casting import as_array, to_categories
from feature_store.tables.contracts import (
    DataError,
    DataFolderError,
    EntityFacts,
    Kind,
    LogContract,
    LoggedScore,
    RawBatch,
    StoredTypes,
    label_column,
    log_contract,
    nearest,
    score_column,
    score_known_column,
)
from feature_store.tables.multi_values import separated
from feature_store.tables.vectors import TITLE_VECTOR

TYPE_OF_FILE = "the type of the file"  # as a column of files that do not tell it


class TabularReader:
    """Reads CSV, TSV and Parquet files by the names in ``source.events``, ``source.items``, ``source.users`` and ``source.context``.

    The events may be a version of a Delta Lake or Iceberg table, which is some Parquet files too.
    """

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        if config.events is None:
            raise DataError("reader tabular needs source.events with path, user, item and time")
        self._data = data_folder(data, "tabular") if config.needs_folder else data
        self._events, self._items, self._users, self._context = config.events, config.items, config.users, config.context

    @cached_property
    def table(self) -> TableVersion | None:
        """The version of a table that holds the events, looked up once; None where they are files of a folder."""
        return table_version(self._events, self._data)

    def files(self) -> list[Path]:
        described = self._described()
        taken = [path for _, paths in described for path in paths]
        if len(set(taken)) < len(taken):
            twice = next(path for path in taken if taken.count(path) > 1)
            raise DataFolderError(
                f"{relative(twice, self._data)}: is matched by source.items.path and by source.users.path; correct one of them"
            )
        found = [path for path in self._event_files() if path not in taken]
        if not found:
            raise DataFolderError(f"{self._data}: no file matches source.events.path {self._events.path!r}; correct one of them")
        for path in [*found, *taken]:
            if not path.name.endswith(ENDINGS):
                raise DataError(f"{relative(path, self._data)}: its ending says no known format; files end in {', '.join(ENDINGS)}")
        return sorted([*found, *taken])

    def _event_files(self) -> list[Path]:
        if self.table is not None:
            return list(self.table.files)
        if self._data is None:
            return []
        found = list(self._types_of_files)
        found += data_files(self._data, self._events.path) if self._events.path is not None else []
        kept = set(not_before([relative(path, self._data) for path in found], self._events.since))
        return [path for path in found if relative(path, self._data) in kept]

    @cached_property
    def _types_of_files(self) -> dict[Path, str]:
        """The type that all events of a file have, where files tell it."""
        told = {} if self._events.type is None else self._events.type.files
        found: dict[Path, str] = {}
        for pattern, kind in told.items():
            files = data_files(self._data, pattern) if self._data is not None else []
            if not files:
                raise DataFolderError(f"{self._data}: no file matches {pattern!r} of source.events.type.files; correct one of them")
            for path in files:
                if found.setdefault(path, kind) != kind:
                    raise DataFolderError(
                        f"{relative(path, self._data)}: is of {found[path]!r} and of {kind!r} by source.events.type.files"
                    )
        return found

    def _described(self) -> list[tuple[Kind, list[Path]]]:
        """The files of items and of users."""
        described: list[tuple[Kind, list[Path]]] = []
        kinds: tuple[Kind, ...] = ("items", "users")
        for kind in kinds:
            block = self._block(kind)
            if block is None:
                continue
            if is_url(block.path):
                raise DataFolderError(f"source.{kind}.path is a URL, and there is no copy yet of what is behind it; ingest the log")
            folder, pattern = self._data, block.path
            if Path(pattern).is_absolute():  # of a copy of what is behind a URL
                root, pattern = folder_and_pattern(pattern)
                folder = Path(root)
            if folder is None:
                continue
            found = data_files(folder, pattern)
            if not found:
                raise DataFolderError(f"{self._data}: no file matches source.{kind}.path {block.path!r}; correct one of them")
            described.append((kind, found))
        return described

    def fingerprint(self) -> str:
        blocks = {"events": self._events, "items": self._items, **({} if self._users is None else {"users": self._users})}
        settings = {name: block and _settings(block) for name, block in blocks.items()}
        return reader_fingerprint("tabular", context=self._context.model_dump(exclude={"optional"}), **settings)

    def contract(self) -> LogContract:
        items, users = (_Entity.of(block) for block in (self._items, self._users))
        return log_contract(
            has_impressions=not self._events.clicks_only,
            categorical=self._context.categorical,
            dense=self._context.dense,
            item_attributes=items.attributes,
            item_multi=items.multi,
            user_attributes=users.attributes,
            user_multi=users.multi,
            item_facts=items.facts,
            user_facts=users.facts,
            item_vectors=[] if self._items is None else _item_vectors(self._items),
            user_vectors=[] if self._users is None else self._users.vector,
            weighted=bool(self._events.weights),
            types=None if self._events.type is None else _stored_types(self._events.type),
            labels=self._events.labels,
            scores=[LoggedScore(name=name, has_time=known is not None) for name, known in self._events.scores.items()],
        )

    def kinds(self) -> dict[Path, Kind]:
        """What each file of items and users holds; all others hold events."""
        return {path: kind for kind, paths in self._described() for path in paths}

    def lacking(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
        """What files lack of the columns that are read, a line for each, or what is wrong with them."""
        kinds = self.kinds()
        for path in files:
            file = relative(path, self._data)
            try:
                own = [*file_columns(path, file), *self._values(path, file, kinds.get(path, "events"))]
            except DataError as error:
                yield path, [str(error).removeprefix(f"{file}: ")]
                continue
            columns = self._columns(kinds.get(path, "events"))
            yield path, [f"column {raw!r} is missing; {nearest(raw, own)}" for raw in columns.values() if raw not in own]

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        kinds = self.kinds()
        for path in files:
            kind = kinds.get(path, "events")
            file, columns = relative(path, self._data), self._columns(kind)
            if kind == "events" and self.table is not None:
                self.table.check_columns(path, file, list(columns.values()))
            for batch in read_partitioned(path, file, kind, columns, self._values(path, file, kind)):
                block = self._block(kind)
                if block is not None:
                    batch = batch._replace(table=_with_lists(batch.table, block))
                yield _of_types(batch, self._events.type) if kind == "events" and self._events.type is not None else batch

    def _values(self, path: Path, file: str, kind: Kind) -> Mapping[str, pa.Scalar]:
        """What the columns hold that a file may lack."""
        table = self.table.files.get(path) if self.table is not None else None
        said = partition_values(file) if table is None else table
        if kind != "events":
            return said
        of_file = self._types_of_files.get(path)
        types = {} if of_file is None else {TYPE_OF_FILE: pa.scalar(of_file)}
        if self._events.type is not None and of_file not in (None, self._events.type.label, self._events.type.shown):
            types |= dict.fromkeys(self._events.weights.values(), pa.scalar(None, pa.null()))  # no row of the file is learned from
        later = (*self._context.optional, *self._events.scores, *filter(None, self._events.scores.values()))
        return dict.fromkeys(later, pa.scalar(None, pa.null())) | said | types

    def _block(self, kind: Kind) -> ItemColumns | UserColumns | None:
        return {"items": self._items, "users": self._users}.get(kind)

    def _columns(self, kind: Kind) -> dict[str, str]:
        """Columns of a file, by their names in the contract."""
        events, block = self._events, self._block(kind)
        if block is not None:
            return _columns(block)
        optional = {"clicked": events.clicked, "request_id": events.request, "ingested_at": events.ingested}
        columns = {"user_id": events.user, "item_id": events.item, "timestamp": events.time}
        columns |= {name: raw for name, raw in optional.items() if raw is not None} | events.weights
        columns |= {} if events.type is None else {"event_type": events.type.column or TYPE_OF_FILE}
        columns |= {label_column(name): raw for name, raw in events.labels.items()}
        columns |= {score_column(name): name for name in events.scores}
        columns |= {score_known_column(name): known for name, known in events.scores.items() if known is not None}
        return columns | {name: name for name in [*self._context.categorical, *self._context.dense]}


class _Entity(NamedTuple):
    """What a block of items or users brings."""

    attributes: list[str]
    multi: list[str]
    facts: EntityFacts | None

    @classmethod
    def of(cls, block: EntityColumns | None) -> _Entity:
        if block is None:
            return cls([], [], None)
        dated = block.time is not None
        facts = EntityFacts(categorical=block.categorical if dated else [], dense=block.dense, dated=dated)
        return cls([] if dated else [*block.categorical, *block.multi], block.multi, facts if dated or block.dense else None)


# keys that say nothing where they are empty
_NEWER = ("dense", "time", "multi", "vector", "weight", "negative_sampling_rate", "type", "labels", "scores")


def _settings(block: EventColumns | EntityColumns) -> dict[str, Any]:
    """What of a block is part of a log's identity: not which files there are, nor newer keys that say nothing."""
    places: Any = {**dict.fromkeys(EVENT_PLACES, True), "type": {"files"}} if isinstance(block, EventColumns) else {"path": True}
    values = {name: value for name, value in block.model_dump(exclude=places).items() if value or name not in _NEWER}
    if isinstance(values.get("text"), dict):  # which encoder makes vectors of titles is told by the ledger
        values["text"] = {"column": values["text"]["column"]}
    if "multi" not in values:
        values.pop("separator", None)
    return values


def _columns(block: ItemColumns | UserColumns) -> dict[str, str]:
    """Columns of a file of items or users, by their names in the contract."""
    columns = {"item_id": block.item} if isinstance(block, ItemColumns) else {"user_id": block.user}
    columns |= {} if block.time is None else {"timestamp": block.time}
    columns |= {name: name for name in (*block.categorical, *block.multi, *block.dense, *block.vector)}
    return columns | ({"title": block.title} if isinstance(block, ItemColumns) and block.title else {})


def _item_vectors(block: ItemColumns) -> list[str]:
    """Those that files hold, and the one that is made of titles when they are stored."""
    return [*block.vector, *([TITLE_VECTOR] if isinstance(block.text, EncodedTitle) else [])]


def _stored_types(block: EventTypes) -> StoredTypes:
    return StoredTypes(names=block.names, shown=block.shown, history=block.history or [block.label])


def _of_types(batch: RawBatch, types: EventTypes) -> RawBatch:
    """Events without those whose type nobody asked for."""
    kind = to_categories(as_array(batch.table["event_type"]))[0]
    asked = [*types.names, *([] if types.shown is None else [types.shown])]
    kept = pc.fill_null(pc.is_in(kind, value_set=pa.array(asked, pa.string())), True)
    kept = pc.or_(kept, kind.is_null())  # which is a fault
    if pc.all(kept).as_py() in (True, None):
        return batch
    return batch._replace(table=batch.table.filter(kept), lines=batch.lines[kept.to_numpy(zero_copy_only=False)])


def _with_lists(rows: pa.Table, block: EntityColumns) -> pa.Table:
    """Rows whose columns of several values hold lists, also where they were text."""
    for name in block.multi:
        column = as_array(rows[name])
        if not pa.types.is_nested(column.type):
            rows = rows.set_column(rows.column_names.index(name), name, separated(column, block.separator))
    return rows
