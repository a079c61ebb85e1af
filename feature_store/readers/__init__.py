"""Readers by the name that a configuration gives them; each turns one raw layout into the tables of the contract."""

from __future__ import annotations

from feature_store.readers.globo import GloboReader
from feature_store.readers.mind import MindReader
from feature_store.readers.movielens import MovieLensReader
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
