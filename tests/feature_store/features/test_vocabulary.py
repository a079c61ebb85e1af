"""Vocabularies see the training window alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from tests.feature_store.logs import Event, at, write_store

ENGINE = FeatureStoreConfig(threads=1)
ITEMS = pa.table({"item_id": [1, 2, 3, 10, 50], "category": ["b", "a", "a", None, "rare"], "title": [None, "x", None, None, "y"]})
USERS = pa.table({"user_id": [0, 1, 99], "age": ["30", "20", "77"]})
LOG = [
    *(Event(0, item, minute, device="old") for item, minute in ((10, 0), (10, 1), (2, 2), (2, 3), (1, 4), (3, 5))),  # before train_from
    *(Event(0, 3, minute, device="phone") for minute in (10, 11)),
    *(Event(1, 3, minute, clicked=0, device="tablet") for minute in (12, 13, 14)),  # shown, never clicked
    Event(1, 1, 15, delay=60, device="tablet"),  # of the training window, but known after it
    Event(0, 50, 16, device="watch"),
    Event(0, 7, 30, device="new"),
    *(Event(1, 7, minute, device="new") for minute in (40, 41, 42)),
    *(Event(1, 7, minute, clicked=0, device="new") for minute in (31, 43)),  # validation and test hold more than clicks
]


def fit(tmp_path: Path, **vocabulary: Any) -> tuple[dict[str, list[str]], ClickSummary]:
    split = {"train_from": at(10), "train_until": at(20), "validate_until": at(40), "test_until": at(60)}
    config = AssemblyConfig.model_validate({"split": split, "vocabulary": {"min_count": 2, **vocabulary}})
    summary = assemble(write_store(tmp_path / "store", LOG, True, ITEMS, USERS), config, ENGINE, None, tmp_path / "out")
    return json.loads((tmp_path / "out" / "vocabulary.json").read_text()), summary


def test_tokens_are_those_of_the_training_window_most_frequent_first(tmp_path: Path) -> None:
    vocabulary, summary = fit(tmp_path)
    assert vocabulary == {
        "item": ["3", "10", "2"],  # 3 clicks; two with 2 in the order of their text; 1 was clicked twice, but known once
        "category": ["a"],  # of the clicked items; b has one known click
        "device": ["tablet", "phone"],  # of the rows from train_from on
        "age": ["20", "30"],
    }
    assert summary.unseen_item_share == 1.0
    assert summary.new_item_share == 1.0


def test_max_size_keeps_the_most_frequent(tmp_path: Path) -> None:
    many = [*LOG, *(Event(2, 100 + n % 15, n % 10, device="old") for n in range(300))]
    split = {"train_until": at(20), "validate_until": at(40), "test_until": at(60)}
    config = AssemblyConfig.model_validate({"split": split, "vocabulary": {"min_count": 1, "max_size": 10}})
    assemble(write_store(tmp_path / "store", many, True), config, ENGINE, None, tmp_path / "out")
    items = json.loads((tmp_path / "out" / "vocabulary.json").read_text())["item"]
    assert items == [str(100 + n) for n in range(10)]
