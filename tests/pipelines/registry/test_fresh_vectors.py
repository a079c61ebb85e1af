"""Requests over HTTP read the newest item vectors, which are renewed while the server runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ctr_kd.embeddings.walk import Walk
from feature_store.config import AssemblyConfig, EmbeddingsConfig
from feature_store.features.statistics import AGE, PRODUCT
from feature_store.tables.contracts import DataError
from pipelines.registry.fresh_vectors import FreshVectors
from pipelines.tasks.embedding_facts import ProductLookup, facts_folder
from tests.ctr_kd.embeddings.click_worlds import HOUR, START, random_events, sequences

EMBEDDINGS = EmbeddingsConfig.model_validate({"block": "1h", "width": 8, "negatives": 8})
CONFIG = AssemblyConfig.model_validate({"split": {"fractions": [0.8, 0.1, 0.1]}, "history": {"max_length": 4}, "embeddings": EMBEDDINGS})
CLICKS = sequences(random_events(1))
REQUEST = {"history": ["i000", "i002"], "item_id": ["i004", "i005", "new"], "timestamp": "2030-01-01T00:00:00Z"}


def learn(workspace: Path, until: int) -> None:
    Walk(CLICKS, EMBEDDINGS, 4, facts_folder(workspace, EMBEDDINGS, 4), until, START).learn()


def batch(workspace: Path, moment: int) -> list[float]:
    """What a batch reads at a time."""
    lookup = ProductLookup(workspace, CONFIG, CLICKS.items)
    rows = pa.table({"item_id": REQUEST["item_id"], "history": pa.array([REQUEST["history"]] * 3)})
    return lookup.add(rows, np.full(3, moment))[PRODUCT].to_pylist()


def test_a_request_reads_what_a_batch_would_read_now(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    vectors = FreshVectors(tmp_path, CONFIG)
    first = vectors.complete(pd.DataFrame([REQUEST]))
    assert first[PRODUCT][0] == pytest.approx(batch(tmp_path, START + 20 * HOUR), rel=1e-6)
    learn(tmp_path, START + 40 * HOUR)  # under the running server
    second = vectors.complete(pd.DataFrame([REQUEST]))
    assert second[PRODUCT][0] == pytest.approx(batch(tmp_path, START + 40 * HOUR), rel=1e-6) != first[PRODUCT][0]
    assert second[AGE][0] == first[AGE][0] - 20 * 3600


def test_rows_are_candidates_or_requests(tmp_path: Path) -> None:
    learn(tmp_path, START + 40 * HOUR)
    vectors = FreshVectors(tmp_path, CONFIG)
    many = vectors.complete(pd.DataFrame([REQUEST, {**REQUEST, "item_id": ["i005"]}]))
    alone = vectors.complete(pd.DataFrame([{**REQUEST, "item_id": item} for item in REQUEST["item_id"]]))
    assert [len(one) for one in many[PRODUCT]] == [3, 1]
    assert many[PRODUCT][0] == pytest.approx(alone[PRODUCT].tolist(), rel=1e-6) and many[PRODUCT][1] == pytest.approx([alone[PRODUCT][1]])
    nothing = vectors.complete(pd.DataFrame([{"item_id": "i004", "timestamp": REQUEST["timestamp"]}]))
    assert nothing[PRODUCT][0] is None and nothing[AGE][0] > 0


def test_what_a_request_carries_stays(tmp_path: Path) -> None:
    learn(tmp_path, START + 40 * HOUR)
    vectors = FreshVectors(tmp_path, CONFIG)
    own = pd.DataFrame([{**REQUEST, PRODUCT: [0.1, 0.2, 0.3]}])
    assert vectors.complete(own)[PRODUCT][0] == [0.1, 0.2, 0.3] and AGE in vectors.complete(own)
    assert vectors.complete(pd.DataFrame([{"history": []}])).columns.tolist() == ["history"]  # the scorer says what is missing


def test_a_clock_that_is_behind_makes_no_vector_older_than_new(tmp_path: Path) -> None:
    learn(tmp_path, START + 40 * HOUR)
    found = FreshVectors(tmp_path, CONFIG).complete(pd.DataFrame([{**REQUEST, "timestamp": "2001-01-01"}]))
    assert found[AGE][0] == 0 and None not in found[PRODUCT][0]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no item vectors were learned there"):
        FreshVectors(tmp_path, CONFIG).check()
    learn(tmp_path, START + 40 * HOUR)
    with pytest.raises(DataError, match="column timestamp"):
        FreshVectors(tmp_path, CONFIG).complete(pd.DataFrame([{**REQUEST, "timestamp": "soon"}]))
