"""Frames as an assembly: what is fitted comes of training rows alone, and nothing comes after its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ctr_kd.data.samples import Assembly, gap_bucket, index_of
from ctr_kd.frames.assembly import FrameColumns, assemble_frames
from feature_store.config import HistoryConfig, VocabularyConfig
from feature_store.special_tokens import SPECIALS, UNKNOWN
from feature_store.tables.contracts import DataError
from tests.ctr_kd.frames.rows import ITEMS, rows

COLUMNS = FrameColumns(categorical=("device",), dense=("price",))


def assembled(folder: Path, train: pd.DataFrame, validation: pd.DataFrame, items: pd.DataFrame | None = None, **settings: Any) -> Assembly:
    return assemble_frames(
        train,
        validation,
        folder,
        columns=COLUMNS,
        items=items,
        history=HistoryConfig(max_length=settings.get("max_length", 4)),
        vocabulary=VocabularyConfig(min_count=settings.get("min_count", 1)),
    )


def test_samples_are_the_frames_row_by_row(tmp_path: Path) -> None:
    frames = {"train": rows(200, 0), "validation": rows(60, 1)}
    assembly = assembled(tmp_path, *frames.values(), ITEMS)
    signature = assembly.signature()
    assert list(signature.tokens) == ["item", "kind", "gap"] and list(signature.categorical) == ["device"] and signature.max_length == 4
    kinds = dict(zip(ITEMS["item_id"], ITEMS["kind"], strict=True))
    for name, frame in frames.items():
        samples = assembly.samples(name)
        np.testing.assert_array_equal(samples.label, frame["label"])
        np.testing.assert_allclose(samples.dense[:, 0], frame["price"], rtol=1e-6)
        np.testing.assert_array_equal(samples.categorical[:, 0], index_of(_arrow(frame["device"]), assembly.vocabulary["device"]))
        for row, (history, times, item) in enumerate(zip(frame["history"], frame["history_timestamps"], frame["item_id"], strict=True)):
            newest, moments = history[-4:], np.array(times[-4:], "datetime64[us]").astype(np.int64)
            tokens = samples.a.pool[samples.a.start[row] : samples.a.end[row]]
            np.testing.assert_array_equal(tokens[:, 0], index_of(_arrow(newest), assembly.vocabulary["item"]))
            np.testing.assert_array_equal(tokens[:, 1], index_of(_arrow([kinds[one] for one in newest]), assembly.vocabulary["kind"]))
            first = np.arange(len(newest)) == 0
            np.testing.assert_array_equal(tokens[:, 2], gap_bucket(moments, np.ones(len(newest), bool), first))
            assert samples.b.pool[samples.b.start[row], 0] == index_of(_arrow([item]), assembly.vocabulary["item"])[0]


def _arrow(values: Any) -> Any:
    return pa.array(values, pa.string())


def test_candidates_of_a_request_share_its_history_and_others_do_not(tmp_path: Path) -> None:
    train = rows(50, 0)
    samples = assembled(tmp_path, train, rows(20, 1)).samples("train")
    np.testing.assert_array_equal(samples.group, train["request_id"])
    for _, part in train.groupby("request_id"):
        assert len(set(zip(samples.a.start[part.index], samples.a.end[part.index], strict=True))) == 1
    assert len(samples.a.pool) < sum(min(len(history), 4) for history in train["history"])  # each is there once


def test_validation_rows_change_nothing_that_is_fitted(tmp_path: Path) -> None:
    train = rows(100, 0)
    strange = rows(50, 1).assign(device="tv", price=1e6, item_id="new")
    strange["history"] = [["newer"] * len(history) for history in strange["history"]]
    one, two = assembled(tmp_path / "one", train, rows(50, 1)), assembled(tmp_path / "two", train, strange)
    assert one.vocabulary == two.vocabulary and one.bins() == two.bins()
    samples = two.samples("validation")
    assert (samples.b.pool[samples.b.start, 0] == UNKNOWN).all() and (samples.categorical == UNKNOWN).all()


def test_vocabularies_count_and_are_cut(tmp_path: Path) -> None:
    train = pd.DataFrame(
        {
            "history": [["a", "b"], [], ["c"]],
            "item_id": ["a", "a", "d"],
            "timestamp": ["2024-01-01T10", "2024-01-01T11", "2024-01-01T12"],
            "label": [1, 0, 1],
            "device": ["x", "x", None],
            "price": [1.0, None, 2.0],
        }
    )
    assembly = assembled(tmp_path, train, train.assign(timestamp="2024-01-02"), min_count=2)
    assert assembly.vocabulary == {"item": ["a"], "device": ["x"]}
    samples = assembly.samples("train")
    assert samples.categorical[:, 0].tolist() == [len(SPECIALS), len(SPECIALS), 0] and np.isnan(samples.dense[:, 0]).tolist() == [
        False,
        True,
        False,
    ]


def test_a_training_row_without_a_label_is_kept_without_one(tmp_path: Path) -> None:
    train = rows(50, 0).astype({"label": float})
    train.loc[3, "label"] = np.nan
    assert assembled(tmp_path / "a", train, rows(20, 1)).samples("train").label[3] == -1
    with pytest.raises(DataError, match="validation: column label must hold 0 or 1; row 4 holds nan"):
        assembled(tmp_path / "b", rows(50, 0), train)


def test_a_click_that_is_not_before_its_row_is_refused(tmp_path: Path) -> None:
    train = rows(50, 0)
    leaking = train.copy()
    place = next(row for row, history in enumerate(train["history"]) if history)
    leaking.at[place, "history_timestamps"] = [*train.at[place, "history_timestamps"][:-1], train.at[place, "timestamp"].to_datetime64()]
    with pytest.raises(DataError, match=rf"train: row {place + 1} has a click in its history that is not before its timestamp"):
        assembled(tmp_path, leaking, rows(20, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": "history"}, "train: column history is missing"),
        ({"drop": "device"}, "train: column device is missing"),
        ({"timestamp": "soon"}, "train: column timestamp: value 1 has no meaning there: 'soon'"),
        ({"timestamp": None}, "train: column timestamp: row 1 holds no time"),
        ({"label": 2}, "train: column label must hold 0 or 1; row 1 holds 2"),
        ({"label": 1}, "train: column label must hold both 0 and 1"),
        ({"price": "cheap"}, "train: column price: value 1 has no meaning there: 'cheap'"),
        ({"history": "i1"}, "train: column history must hold lists"),
        ({"history_timestamps": None}, "clicks in history and 0 times in history_timestamps"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    train = rows(50, 0)
    wrong = train.drop(columns=change["drop"]) if "drop" in change else train.assign(**change)
    with pytest.raises(DataError) as raised:
        assembled(tmp_path, wrong, rows(20, 1))
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_items_are_described_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="items: an item_id is there twice"):
        assembled(tmp_path, rows(50, 0), rows(20, 1), pd.concat([ITEMS, ITEMS]))
