"""A reader of another package: known by its source beside its settings, and what goes wrong in it is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from feature_store.config import SourceConfig, reader_plugin
from feature_store.readers.base import reader_fingerprint
from feature_store.tables.contracts import DataError, LogContract, RawBatch


class PluginReader:
    """What a reader of another package gives, if it is what a reader gives; see :class:`feature_store.tables.contracts.LogReader`.

    The plug-in needs no ``fingerprint`` of its own.
    """

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._config = config
        self._reader = self._asked("be made", lambda: reader_plugin(config.reader)(config, data))

    def files(self) -> list[Path]:
        return sorted(self._asked("name its files", self._reader.files))

    def fingerprint(self) -> str:
        return reader_fingerprint(self._config.reader, log=self._config.log())

    def contract(self) -> LogContract:
        contract = self._asked("say what the log offers", self._reader.contract)
        if not isinstance(contract, LogContract):
            raise DataError(
                f"the reader {self._config.reader!r} gives a {type(contract).__name__} in place of a LogContract (log_contract)"
            )
        return contract

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        batches = iter(self._asked("read", lambda: self._reader.read(files)))
        while (batch := self._asked("read", lambda: next(batches, None))) is not None:
            if not isinstance(batch, RawBatch):
                raise DataError(f"the reader {self._config.reader!r} gives a {type(batch).__name__} in place of a RawBatch")
            if batch.table.num_rows != len(batch.lines):
                raise DataError(
                    f"{batch.file}: the reader {self._config.reader!r} gives {batch.table.num_rows:,} rows with {len(batch.lines):,} lines"
                )
            yield batch

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (DataError, OSError):
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"the reader {self._config.reader!r} cannot {what}: {said}") from error
