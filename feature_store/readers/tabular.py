"""A log of one's own: event files and an item file whose columns the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from feature_store.config import SourceConfig
from feature_store.readers.base import ENDINGS, data_files, data_folder, read_table, reader_fingerprint, relative
from feature_store.tables.contracts import DataError, DataFolderError, LogContract, RawBatch, log_contract


class TabularReader:
    """Reads CSV, TSV and Parquet files by the names in ``source.events``, ``source.items`` and ``source.context``."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        if config.events is None:
            raise DataError("reader tabular needs source.events with path, user, item and time")
        self._data = data_folder(data, "tabular")
        self._events, self._items, self._context = config.events, config.items, config.context

    def files(self) -> list[Path]:
        items = self._item_files()
        found = [path for path in data_files(self._data, self._events.path) if path not in items]
        if not found:
            raise DataFolderError(f"{self._data}: no file matches source.events.path {self._events.path!r}; correct one of them")
        for path in [*found, *items]:
            if not path.name.endswith(ENDINGS):
                raise DataError(f"{relative(path, self._data)}: its ending says no known format; files end in {', '.join(ENDINGS)}")
        return sorted([*found, *items])

    def _item_files(self) -> list[Path]:
        if self._items is None:
            return []
        found = data_files(self._data, self._items.path)
        if not found:
            raise DataFolderError(f"{self._data}: no file matches source.items.path {self._items.path!r}; correct one of them")
        return found

    def fingerprint(self) -> str:
        blocks = {name: block and block.model_dump() for name, block in (("events", self._events), ("items", self._items))}
        for block in blocks.values():
            if block:
                block.pop("path")  # which files there are is the ledger's business
        return reader_fingerprint("tabular", context=self._context.model_dump(), **blocks)

    def contract(self) -> LogContract:
        return log_contract(
            has_impressions=self._events.clicked is not None,
            categorical=self._context.categorical,
            dense=self._context.dense,
            item_attributes=self._items.categorical if self._items else (),
        )

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        events, items = self._events, self._items
        optional = {"clicked": events.clicked, "request_id": events.request, "ingested_at": events.ingested}
        columns = {"user_id": events.user, "item_id": events.item, "timestamp": events.time}
        columns |= {name: raw for name, raw in optional.items() if raw is not None}
        columns |= {name: name for name in [*self._context.categorical, *self._context.dense]}
        attributes = {}
        if items is not None:
            attributes = {"item_id": items.item, **{name: name for name in items.categorical}}
            attributes |= {"title": items.text} if items.text else {}
        item_files = self._item_files()
        for path in files:
            file = relative(path, self._data)
            if path in item_files:
                yield from read_table(path, file, "items", attributes)
            else:
                yield from read_table(path, file, "events", columns)
