"""Requests over HTTP read the newest item vectors, which are renewed while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ctr_kd.embeddings import facts
from ctr_kd.embeddings.walk import Walk
from ctr_kd.export import newest_vectors
from ctr_kd.export.newest_vectors import PublishedVectors, VectorsError
from feature_store.config import AssemblyConfig, EmbeddingsConfig
from feature_store.features.statistics import AGE, PRODUCT, vector_columns
from feature_store.tables import casting
from feature_store.tables.contracts import DataError
from pipelines.registry.fresh_vectors import FreshVectors
from pipelines.tasks.embedding_facts import facts_folder, learned_by, publish_newest
from pipelines.tasks.vector_columns import VectorLookup
from pipelines.workspace.retention import VECTORS
from tests.ctr_kd.embeddings.click_worlds import HOUR, START, random_events, sequences

EMBEDDINGS = EmbeddingsConfig.model_validate({"block": "1h", "width": 8, "negatives": 8})
CONFIG = AssemblyConfig.model_validate({"split": {"fractions": [0.8, 0.1, 0.1]}, "history": {"max_length": 4}, "embeddings": EMBEDDINGS})
CLICKS = sequences(random_events(1))
REQUEST = {"history": ["i000", "i002"], "item_id": ["i004", "i005", "new"], "timestamp": "2030-01-01T00:00:00Z"}


def learn(workspace: Path, until: int) -> None:
    Walk(CLICKS, EMBEDDINGS, 4, facts_folder(workspace, EMBEDDINGS, 4), until, START).learn()


def batch(workspace: Path, moment: int) -> list[float]:
    """What a batch reads at a time."""
    lookup = VectorLookup(workspace, CONFIG, CLICKS.items)
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


SETTINGS = {"embeddings": learned_by(EMBEDDINGS), "max_length": 4}
COLUMNS = list(vector_columns(0))


def published(workspace: Path) -> PublishedVectors:
    publish_newest(workspace, CONFIG)
    return PublishedVectors(workspace / VECTORS, SETTINGS, casting, COLUMNS)


def test_a_model_that_was_loaded_alone_reads_what_a_server_reads(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    alone, served = published(tmp_path), FreshVectors(tmp_path, CONFIG)
    frame = pd.DataFrame(
        [REQUEST, {**REQUEST, "history": ["i003", "i001", "new", "i002", "i005", "i004"], "item_id": ["i000"]}, {**REQUEST, "history": []}]
    )
    for until in (20, 40):
        learn(tmp_path, START + until * HOUR)  # under the loaded model
        publish_newest(tmp_path, CONFIG)
        found, expected = alone.complete(frame), served.complete(frame)
        for mine, theirs in zip(found[PRODUCT][:2], expected[PRODUCT][:2], strict=True):
            assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-5)  # sums of parts are rounded once more
        assert found[PRODUCT][2] == expected[PRODUCT][2] == [None] * 3
        assert found[AGE].tolist() == pytest.approx(expected[AGE].tolist())
    assert len(list(tmp_path.glob("embeddings/*/newest/*.parquet"))) == 2  # the one before too, which somebody may be reading
    assert not list(tmp_path.glob("embeddings/*/newest/.newest.tmp"))


def test_a_model_that_reads_the_vectors_themselves_is_given_them(tmp_path: Path) -> None:
    learn(tmp_path, START + 40 * HOUR)
    publish_newest(tmp_path, CONFIG)
    columns = list(vector_columns(8))
    assert newest_vectors.columns_of([*columns, "item_age", "embedding_item_of_the_log"]) == columns
    alone = PublishedVectors(tmp_path / VECTORS, SETTINGS, casting, columns)  # how they are read is no setting of how they were learned
    served = FreshVectors(tmp_path, CONFIG.model_copy(update={"embeddings": EMBEDDINGS.model_copy(update={"vectors": True})}))
    frame = pd.DataFrame([REQUEST, {**REQUEST, "history": []}, {**REQUEST, "embedding_item_3": [0.5, 0.25, None]}])
    found, expected = alone.complete(frame), served.complete(frame)
    assert set(columns) <= set(found.columns) == set(expected.columns)
    for name in columns:
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert np.allclose(np.asarray(mine, float), np.asarray(theirs, float), rtol=2e-3, atol=1e-4, equal_nan=True), name
    assert found["embedding_history_0"][0] != 0 and pd.isna(found["embedding_history_0"][1])  # one for all candidates
    assert len(found["embedding_item_0"][1]) == 3 and None not in found["embedding_item_0"][1]
    assert found["embedding_item_3"][2] == [0.5, 0.25, None]


def test_what_is_published_already_is_not_written_again(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    published(tmp_path)
    (pointer,) = tmp_path.glob("embeddings/*/newest/newest.json")
    before = pointer.stat().st_mtime_ns
    publish_newest(tmp_path, CONFIG)
    assert pointer.stat().st_mtime_ns == before


def test_damaged_vectors_do_not_replace_good_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learn(tmp_path, START + 20 * HOUR)
    alone = published(tmp_path)
    first = alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0]
    learn(tmp_path, START + 40 * HOUR)
    publish_newest(tmp_path, CONFIG)
    for file in tmp_path.glob("embeddings/*/newest/*.parquet"):
        file.write_bytes(file.read_bytes()[:-1])
    assert alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0] == first
    assert "does not match its digest" in caplog.text
    with pytest.raises(VectorsError, match=r"does not match its digest in newest/newest\.json"):
        PublishedVectors(tmp_path / VECTORS, SETTINGS, casting, COLUMNS)


def test_vectors_of_other_settings_are_none_of_the_model(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    published(tmp_path)
    for other in ({**SETTINGS, "max_length": 5}, {**SETTINGS, "embeddings": {**learned_by(EMBEDDINGS), "width": 16}}):
        with pytest.raises(VectorsError, match="holds no published vectors of this model"):
            PublishedVectors(tmp_path / VECTORS, other, casting, COLUMNS)


def test_a_bert_is_read_by_a_workspace_alone(tmp_path: Path) -> None:
    bert = EMBEDDINGS.model_copy(update={"encoder": "bert"})
    config = CONFIG.model_copy(update={"embeddings": bert})
    Walk(CLICKS, bert, 4, facts_folder(tmp_path, bert, 4), START + 10 * HOUR, START).learn()
    publish_newest(tmp_path, config)
    with pytest.raises(VectorsError, match="vectors of a BERT, which no model reads alone"):
        PublishedVectors(tmp_path / VECTORS, {"embeddings": learned_by(bert), "max_length": 4}, casting, COLUMNS)


def test_a_row_that_cannot_be_read_takes_nothing_from_the_others(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    alone = published(tmp_path)
    odd = [
        {**REQUEST, "timestamp": "soon"},
        {**REQUEST, "timestamp": None},
        {**REQUEST, "timestamp": 1_900_000_000},
        {**REQUEST, "item_id": ["i004", 12, 2**70]},
        {**REQUEST, "history": ["i000", 2, "i002", None]},
    ]

    def near(values: Any) -> Any:  # sums of one row and of many are ordered otherwise
        return pytest.approx(values, abs=1e-6)

    expected = alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0]
    found = alone.complete(pd.DataFrame([REQUEST, *odd]))[PRODUCT].tolist()
    assert found[0] == near(expected) and found[1] == found[2] == [None] * 3
    assert found[3] == near(expected)
    assert found[4][0] == near(expected[0]) and found[4][1] == found[4][2] == near(expected[2])  # two of no item
    assert None not in found[5]


def test_what_was_damaged_is_published_again(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    published(tmp_path)
    (file,) = tmp_path.glob("embeddings/*/newest/*.parquet")
    (pointer,) = tmp_path.glob("embeddings/*/newest/newest.json")
    for harm in (lambda: file.write_bytes(b"no"), file.unlink, lambda: pointer.write_text("{"), lambda: pointer.write_text("{}")):
        harm()
        assert published(tmp_path).complete(pd.DataFrame([REQUEST]))[PRODUCT][0]


def test_a_pointer_that_is_damaged_later_changes_nothing(tmp_path: Path) -> None:
    learn(tmp_path, START + 20 * HOUR)
    alone = published(tmp_path)
    first = alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0]
    (pointer,) = tmp_path.glob("embeddings/*/newest/newest.json")
    for text in ("{", "{}", "[]"):
        pointer.write_text(text)
        assert alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0] == first
    pointer.unlink()
    assert alone.complete(pd.DataFrame([REQUEST]))[PRODUCT][0] == first


def test_names_are_the_same_on_both_sides() -> None:
    """The file that travels alone repeats them."""
    assert (newest_vectors.POINTER, newest_vectors.ENCODER) == (facts.NEWEST, facts.PARAMETERS)
    assert (newest_vectors.PRODUCT, newest_vectors.AGE) == (PRODUCT, AGE)
