"""Clicks on the Globo.com news portal: a folder ``clicks`` of hourly CSV files, clicks only.

A file holds the sessions that *start* in its hour, so later clicks of a session are in the file of an earlier hour.
The log does not say when a click became known, so it counts as known at its own time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from feature_store.config import SourceConfig
from feature_store.readers.base import data_files, data_folder, reader_fingerprint, relative
from feature_store.readers.delimited import CSV, read_delimited
from feature_store.tables.contracts import DataFolderError, LogContract, RawBatch, log_contract

CONTEXT = {
    "environment": "click_environment",
    "device_group": "click_deviceGroup",
    "os": "click_os",
    "country": "click_country",
    "region": "click_region",
    "referrer": "click_referrer_type",
}
# session_size counts all clicks of the session, those after the click at hand included: as a feature it would tell the
# future. Nothing of the session is kept for this reason; its start and order follow from the clicks of its user.
COLUMNS = {"user_id": "user_id", "item_id": "click_article_id", "timestamp": "click_timestamp", **CONTEXT}


class GloboReader:
    """Reads ``clicks/clicks_hour_*.csv`` or ``.csv.gz``."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._data = data_folder(data, "globo")

    def files(self) -> list[Path]:
        found = [path for ending in ("csv", "csv.gz") for path in data_files(self._data, f"clicks/clicks_hour_*.{ending}")]
        if not found:
            raise DataFolderError(f"{self._data}: no clicks/clicks_hour_*.csv or .csv.gz; name the folder that holds `clicks`")
        return sorted(found)

    def fingerprint(self) -> str:
        return reader_fingerprint("globo")

    def contract(self) -> LogContract:
        return log_contract(has_impressions=False, categorical=CONTEXT)

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        for path in files:
            yield from read_delimited(path, relative(path, self._data), "events", COLUMNS, CSV)
