"""Titles become vectors once, and again where the encoder is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import SourceConfig, TitleEncoder
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from pipelines.tasks.title_vectors import TitleVectors
from tests.ctr_kd.huggingface.test_convert import write_folder
from tests.programs import run_program

SETTINGS = TitleEncoder(encoder="bert", max_length=8)


def made(tmp_path: Path, said: list[str]) -> TitleVectors:
    return TitleVectors(SETTINGS, tmp_path, tmp_path / "workspace", said.append)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    write_folder(tmp_path / "bert", "BertModel")
    return tmp_path / "bert"


def test_a_title_is_encoded_once(bert: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = made(tmp_path, said).of(pa.array(["word1", None, "word2", "word1"]))
    assert first[1].as_py() is None and first[0] == first[3] != first[2]
    assert len(said) == 1 and said[0].startswith("2 titles encoded by bert, ")
    again = made(tmp_path, said).of(pa.array(["word2", "word3", None]))
    assert again[0] == first[2] and said[1].startswith("1 titles encoded by bert")
    assert made(tmp_path, said).of(pa.array(["word3", "word1"])).to_pylist() == [again[1].as_py(), first[0].as_py()] and len(said) == 2
    assert made(tmp_path, said).of(pa.nulls(2, pa.string())).null_count == 2 and len(said) == 2
    write_folder(bert, "BertModel", initializer_range=0.2)  # another encoder
    assert made(tmp_path, said).of(pa.array(["word1"]))[0] != first[0] and len(said) == 3


def test_a_folder_that_is_no_bert_is_named(bert: Path, tmp_path: Path) -> None:
    (bert / "config.json").unlink()
    with pytest.raises(DataError, match=r"the encoder of titles: .*bert is not a Hugging Face BERT folder.*below the data folder"):
        made(tmp_path, [])


def test_files_of_items_are_read_again_by_another_encoder(bert: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"u": [1, 2], "i": [1, 2], "t": [1_700_000_000, 1_700_000_100]}), tmp_path / "events.parquet")
    (tmp_path / "items.csv").write_text("i,name\n1,word1\n2,\n")
    source = SourceConfig.model_validate(
        {
            "reader": "tabular",
            "events": {"path": "events.parquet", "user": "u", "item": "i", "time": "t"},
            "items": {"path": "items.csv", "item": "i", "text": {"column": "name", "encoder": "bert", "max_length": 8}},
        }
    )
    store = Store(tmp_path / "store")

    def stored() -> list:
        return pq.ParquetFile(store.items_file()).read()["title_vector"].to_pylist()

    first = ingest(source, tmp_path, store, tmp_path / "failed", titles=made(tmp_path, []))
    before = stored()
    assert first.files == 2 and before[1] is None and np.isclose(np.square(before[0]).sum(), 1)
    assert ingest(source, tmp_path, store, tmp_path / "failed", titles=made(tmp_path, [])).files == 0
    write_folder(bert, "BertModel", initializer_range=0.2)
    second = ingest(source, tmp_path, store, tmp_path / "failed", titles=made(tmp_path, []))
    assert second.files == 1 and second.partitions_written == [] and stored()[0] != before[0]


def test_check_says_that_there_is_no_encoder(tmp_path: Path) -> None:
    pq.write_table(pa.table({"u": [1, 2], "i": [1, 2], "t": [1_700_000_000, 1_700_000_100]}), tmp_path / "events.parquet")
    (tmp_path / "items.csv").write_text("i,name\n1,word1\n2,word2\n")
    conf = tmp_path / "conf.yaml"
    conf.write_text(
        """
source:
  reader: tabular
  events: {path: events.parquet, user: u, item: i, time: t}
  items: {path: items.csv, item: i, text: {column: name, encoder: nowhere}}
split: {fractions: [0.6, 0.2, 0.2]}
"""
    )
    ended = run_program("check", str(conf), "--data", str(tmp_path))
    assert (
        ended.code == 3
        and "does not fit: the encoder of titles: " in ended.out
        and "nowhere is not a Hugging Face BERT folder" in ended.out
    )
