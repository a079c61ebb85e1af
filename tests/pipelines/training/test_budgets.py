from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config_types import is_auto, keep_defaults_of_blocks
from feature_store.features.summary import ClickSummary
from pipelines.config.run import RunConfig, describe
from pipelines.tasks import task_of
from pipelines.tasks.log_size import LogSize
from pipelines.training.budgets import settled, with_numbers
from pipelines.workspace.parent import Parent
from tests.summaries import click_summary


def config(**keys) -> RunConfig:
    values = {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}, **keys}
    keep_defaults_of_blocks(values, RunConfig)
    return RunConfig.model_validate(values)


@pytest.fixture
def ingest(tmp_path: Path) -> Path:
    summary = click_summary(rows={"train": 80_000, "validation": 1, "test": 1}, users=2000, clicks=24_000, new_item_share=0.3)
    summary.write(tmp_path)
    until = int(summary.split.train_until.timestamp() * 1e6)
    clicks = {"user": np.arange(24_000) % 2000, "timestamp": np.repeat([until - 1, until], 12_000)}  # half of them later
    pq.write_table(pa.table(clicks), tmp_path / "clicks.parquet")
    return tmp_path


def test_clicks_after_training_decide_nothing_and_new_items_how_often_ids_are_hidden(ingest: Path) -> None:
    pieces = 2000 + 12_000 // ClickSummary.read(ingest).history.max_length
    assert task_of(config()).size(ingest) == LogSize(rows=80_000, sequences=pieces, tokens=12_000, new_items=0.3)
    assert settled(config(), ingest).finetune.training.unknown_rate == 0.3


def test_the_log_decides_every_auto_and_nothing_else(ingest: Path) -> None:
    given = config(distill={"training": {"epochs": 3, "batch_size": 64}}, finetune={"rate_ratio": 0.5})
    found = settled(given, ingest)
    for block in (found.pretrain, found.finetune, found.distill):
        assert not any(is_auto(value) for value in block.training.model_dump(exclude={"device"}).values())
    assert (found.distill.training.epochs, found.distill.training.batch_size, found.finetune.rate_ratio) == (3, 64, 0.5)
    assert settled(found, ingest) == found  # however often
    assert found.model_dump(exclude={"pretrain", "finetune", "distill"}) == given.model_dump(exclude={"pretrain", "finetune", "distill"})


def test_a_student_that_leaves_out_what_is_unknown_has_nothing_hidden(tmp_path: Path) -> None:
    source = {"reader": "text", "train": "a.tsv", "test": "b.tsv", "text": 0, "label": 1}
    for keep, rate in ((True, 0.2), (False, 0.0)):
        student = {"kind": "words", "keep_unknown": keep}
        values = {"name": "demo", "source": source, "tokens": {"student": student}, "distill": {"student": {"kind": "bilstm"}}}
        keep_defaults_of_blocks(values, RunConfig)
        found = with_numbers(RunConfig.model_validate(values), LogSize(rows=1000, sequences=1000, tokens=9000))
        assert found.distill.training.unknown_rate == rate


def test_a_budget_is_shared_among_the_trainings(ingest: Path) -> None:
    found = settled(config(budget="20m", finetune={"members": 2}, distill={"training": {"minutes": 7}}), ingest)
    assert found.budget == timedelta(minutes=20)
    assert [block.training.minutes for block in (found.pretrain, found.finetune, found.distill)] == [5.0, 4.0, 7.0]
    assert settled(config(), ingest).pretrain.training.minutes is None
    folds = {"teachers": [{"name": "bert", "out_of_fold": True, "folds": 5}]}  # four of which are judged by BERTs of their own
    found = settled(config(budget="20m", finetune={"members": 1}, distill=folds), ingest)
    assert [block.training.minutes for block in (found.pretrain, found.finetune, found.distill)] == [1.0, 1.6, 2.0]
    learned = {"teachers": {"bert": 0.5, "boosted_trees": 0.5}, "weighting": "learned"}
    assert settled(config(budget="20m", finetune={"members": 1}, distill=learned), ingest).finetune.training.minutes == 4.0


def test_what_auto_came_to_is_told_beside_it(ingest: Path) -> None:
    given = config(distill={"training": {"epochs": 3}})
    lines = describe(given, settled(given, ingest)).splitlines()
    assert "    batch_size: auto  # here 512" in lines and "    patience: auto  # here null" in lines and "    epochs: 3.0" in lines
    assert "  # here" not in describe(given)


def test_a_small_log_has_several_fine_tunings_and_a_warm_night_as_many_as_its_parent(ingest: Path) -> None:
    assert settled(config(), ingest).finetune.members == 3
    assert settled(config(finetune={"members": 2}), ingest).finetune.members == 2
    time = datetime(2024, 1, 1, tzinfo=UTC)
    Parent(name="version 1", since=time, cold_since=time, nights=1, artifacts={}, members=5).write(ingest)
    assert settled(config(), ingest).finetune.members == 5
