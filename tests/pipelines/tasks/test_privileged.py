"""Which columns are hidden from students, and that a reader without them knows nothing of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.data.samples import Assembly
from feature_store.config_statistics import StatisticsConfig
from feature_store.features.summary import ClickSummary
from pipelines.config.teacher_only import TeacherOnlyConfig
from pipelines.errors import ConfigError
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.privileged import privileged_columns
from tests.ctr_kd.worlds import write_assembly
from tests.summaries import click_summary


def test_a_statistic_that_is_counted_by_a_hidden_column_is_hidden_too() -> None:
    declared = [{"by": ["item", "place"], "count": "clicks", "share_of": ["item"]}, {"by": ["item", "device"], "count": "clicks"}]
    made_with = StatisticsConfig.model_validate({"of": declared, "listwise_context": ["rank"]})
    names = ["item_place_clicks", "item_place_clicks_of_item", "item_device_clicks", "item_place_clicks_rank"]
    summary = click_summary(statistics=names, context={"categorical": ["place", "device"], "dense": []}, made_with=made_with)
    hidden = privileged_columns(TeacherOnlyConfig(context=["place"]), summary)
    assert hidden == ["place", "item_place_clicks", "item_place_clicks_of_item", "item_place_clicks_rank"]
    assert privileged_columns(TeacherOnlyConfig(statistics=["item_device_clicks"]), summary) == ["item_device_clicks"]
    with pytest.raises(ConfigError, match=r"teacher_only.vector: the rows have no such column 'cover'; existing names are none"):
        privileged_columns(TeacherOnlyConfig(vector=["cover"]), summary)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An assembly whose items have two genres each."""
    folder = write_assembly(tmp_path / "assembly")
    items = pq.read_table(folder / "items.parquet")
    for name in ("genre", "genre[2]"):
        items = items.append_column(name, pa.array([f"topic{n % 2}" for n in range(items.num_rows)]))
    pq.write_table(items, folder / "items.parquet")
    ClickSummary.read(folder).model_copy(update={"item_attributes": ["topic", "genre", "genre[2]"]}).write(folder)
    words = '"genre": ["topic0"], "genre[2]": ["topic0"], '
    (folder / "vocabulary.json").write_text((folder / "vocabulary.json").read_text().replace("{", "{" + words, 1))
    return folder


@pytest.mark.parametrize("written", [False, True], ids=["from the clicks", "from the file"])
def test_a_reader_without_some_columns_has_the_others_as_they_are(directory: Path, tmp_path: Path, written: bool) -> None:
    whole = Assembly(directory, 5)
    if written:
        whole.write_pool()
    part = Assembly(directory, 5, without=["genre", "device", "item_clicks_1h"])
    assert list(part.signature().tokens) == ["item", "topic", "gap"] and not part.signature().categorical
    assert list(part.signature().dense) == ["item_age", "user_gap"]
    assert np.array_equal(part.clicks, whole.clicks[:, [0, 1, 4]])
    one, other = part.samples("test"), whole.samples("test")
    assert np.array_equal(one.b.pool, other.b.pool[:, [0, 1, 4]]) and one.categorical.shape[1] == 0
    assert np.array_equal(one.dense, other.dense[:, [0, 2]], equal_nan=True)
    assert "genre" not in part.input_groups()

    raw = ClickRows(directory, ["genre", "device", "item_clicks_1h"])
    rows = raw.read("test")
    assert not {"device", "item_clicks_1h"} & set(raw.raw(rows).column_names)
    assert raw.categorical == ["topic"] and raw.numeric == ["item_age", "user_gap", "history_length"]
