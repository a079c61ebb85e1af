"""Readers by the name that a configuration gives them; each turns one raw layout into the tables of the contract."""

from __future__ import annotations

from pathlib import Path

from feature_store.config import SourceConfig
from feature_store.readers.globo import GloboReader
from feature_store.readers.mind import MindReader
from feature_store.readers.movielens import MovieLensReader
from feature_store.readers.plugin import PluginReader
from feature_store.readers.s3rec import S3RecReader
from feature_store.readers.simulated import SimulatedReader
from feature_store.readers.tabular import TabularReader
from feature_store.readers.text import TextReader
from feature_store.tables.contracts import LogReader, Reader

LOG_READERS: dict[str, type[LogReader]] = {
    "globo": GloboReader,
    "mind": MindReader,
    "movielens": MovieLensReader,
    "s3rec": S3RecReader,
    "simulated": SimulatedReader,
    "tabular": TabularReader,
}
READERS: dict[str, type[Reader]] = {**LOG_READERS, "text": TextReader}


def log_reader(source: SourceConfig, data: Path | None) -> LogReader:
    """The reader of a click log that a configuration names, of this project or of another package."""
    return LOG_READERS.get(source.reader, PluginReader)(source, data)


def any_reader(source: SourceConfig, data: Path | None) -> Reader:
    """The reader that a configuration names, of clicks or of texts."""
    return READERS[source.reader](source, data) if source.reader in READERS else log_reader(source, data)
