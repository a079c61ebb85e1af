"""A log of one's own: files of events, of items and of users, whose columns the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from feature_store.config import EncodedTitle, EntityColumns, EventColumns, ItemColumns, SourceConfig, UserColumns
from feature_store.readers.base import (
    ENDINGS,
    data_files,
    data_folder,
    file_columns,
    partition_values,
    read_partitioned,
    reader_fingerprint,
    relative,
)
from feature_store.tables.casting import as_array
from feature_store.tables.contracts import (
    DataError,
    DataFolderError,
    EntityFacts,
    Kind,
    LogContract,
    RawBatch,
    label_column,
    log_contract,
    nearest,
)
from feature_store.tables.multi_values import separated
from feature_store.tables.vectors import TITLE_VECTOR


class TabularReader:
    """Reads CSV, TSV and Parquet files by the names in ``source.events``, ``source.items``, ``source.users`` and ``source.context``."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        if config.events is None:
            raise DataError("reader tabular needs source.events with path, user, item and time")
        self._data = data_folder(data, "tabular")
        self._events, self._items, self._users, self._context = config.events, config.items, config.users, config.context

    def files(self) -> list[Path]:
        described = self._described()
        taken = [path for _, paths in described for path in paths]
        if len(set(taken)) < len(taken):
            twice = next(path for path in taken if taken.count(path) > 1)
            raise DataFolderError(
                f"{relative(twice, self._data)}: is matched by source.items.path and by source.users.path; correct one of them"
            )
        found = [path for path in data_files(self._data, self._events.path) if path not in taken]
        if not found:
            raise DataFolderError(f"{self._data}: no file matches source.events.path {self._events.path!r}; correct one of them")
        for path in [*found, *taken]:
            if not path.name.endswith(ENDINGS):
                raise DataError(f"{relative(path, self._data)}: its ending says no known format; files end in {', '.join(ENDINGS)}")
        return sorted([*found, *taken])

    def _described(self) -> list[tuple[Kind, list[Path]]]:
        """The files of items and of users."""
        described: list[tuple[Kind, list[Path]]] = []
        kinds: tuple[Kind, ...] = ("items", "users")
        for kind in kinds:
            block = self._block(kind)
            if block is None:
                continue
            found = data_files(self._data, block.path)
            if not found:
                raise DataFolderError(f"{self._data}: no file matches source.{kind}.path {block.path!r}; correct one of them")
            described.append((kind, found))
        return described

    def fingerprint(self) -> str:
        blocks = {"events": self._events, "items": self._items, **({} if self._users is None else {"users": self._users})}
        settings = {name: block and _settings(block) for name, block in blocks.items()}
        return reader_fingerprint("tabular", context=self._context.model_dump(), **settings)

    def contract(self) -> LogContract:
        items, users = (_Entity.of(block) for block in (self._items, self._users))
        return log_contract(
            has_impressions=self._events.clicked is not None,
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
            labels=self._events.labels,
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
                own = [*file_columns(path, file), *partition_values(file)]
            except DataError as error:
                yield path, [str(error).removeprefix(f"{file}: ")]
                continue
            columns = self._columns(kinds.get(path, "events"))
            yield path, [f"column {raw!r} is missing; {nearest(raw, own)}" for raw in columns.values() if raw not in own]

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        kinds = self.kinds()
        for path in files:
            kind = kinds.get(path, "events")
            for batch in read_partitioned(path, relative(path, self._data), kind, self._columns(kind)):
                block = self._block(kind)
                yield batch if block is None else batch._replace(table=_with_lists(batch.table, block))

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
        columns |= {label_column(name): raw for name, raw in events.labels.items()}
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


_NEWER = ("dense", "time", "multi", "vector", "weight", "negative_sampling_rate", "labels")  # keys, which say nothing where they are empty


def _settings(block: EventColumns | EntityColumns) -> dict[str, Any]:
    """What of a block is part of a log's identity: not which files there are, nor newer keys that say nothing."""
    values = {name: value for name, value in block.model_dump(exclude={"path"}).items() if value or name not in _NEWER}
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


def _with_lists(rows: pa.Table, block: EntityColumns) -> pa.Table:
    """Rows whose columns of several values hold lists, also where they were text."""
    for name in block.multi:
        column = as_array(rows[name])
        if not pa.types.is_nested(column.type):
            rows = rows.set_column(rows.column_names.index(name), name, separated(column, block.separator))
    return rows
