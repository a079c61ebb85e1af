"""A teacher that may see, of training rows, what came after: what it learns of it, and what it does where nothing is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.config import EncoderConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.metrics import auc_score
from ctr_kd.training.finetune import finetune_members
from ctr_kd.training.loop import predict
from ctr_kd.training.pretrain import pretrain
from feature_store.features.event_log import microseconds
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import write_assembly

ITEMS, SESSIONS, USERS = 24, 24, 40
pytestmark = pytest.mark.slow
TRAINING = TrainingConfig(epochs=20, batch_size=64, learning_rate=5e-3, validations=2)
PRETRAIN = PretrainConfig(encoder=EncoderConfig(width=16, heads=2, layers=1, dropout=0.0), training=TRAINING)
CONFIG = FinetuneConfig(rate_ratio=1.0, head_width=16, training=TRAINING.model_copy(update={"epochs": 12, "learning_rate": 1e-2}))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each session a user has another taste, odd items or even ones, which the clicks behind the request tell, and nothing before it.

    The lower half of the items is clicked three times as often.
    """
    directory = write_assembly(tmp_path_factory.mktemp("sessions") / "assembly", users=USERS, items=ITEMS)
    rng, step = np.random.default_rng(1), 20 * 3_600 * 10**6  # a session every twenty hours
    clicks: list[tuple[int, int, int]] = []
    rows: list[tuple[int, int, int, int, int, int]] = []
    for user in range(USERS):
        first = len(clicks)
        for session in range(SESSIONS):
            time, taste = session * step // 2 + user, int(rng.integers(2))
            shown = rng.permutation(ITEMS)[:4]
            likes = np.where(shown % 2 == taste, np.where(shown < ITEMS // 2, 0.9, 0.3), 0.02)
            start = max(first, len(clicks) - 5)
            rows += [(time, user, int(item), int(rng.random() < p), start, len(clicks)) for item, p in zip(shown, likes, strict=True)]
            clicks += [(user, int(2 * rng.integers(ITEMS // 2) + taste), time + 1 + n) for n in range(4)]
    items = {"item_id": pa.array(np.arange(100, 100 + ITEMS)), "topic": pa.array([f"topic{n % 2}" for n in range(ITEMS)])}
    pq.write_table(pa.table(items), directory / "items.parquet")
    user_, item_, at = np.array(clicks).T
    every = np.ones(len(clicks), bool)
    columns = {"item": item_.astype(np.int32), "timestamp": at, "known_at": at, "user": user_.astype(np.int32)}
    pq.write_table(pa.table({**columns, "time_known": every, "canonical": every}), directory / "clicks.parquet")
    time, user, item, label, start, end = np.array(sorted(rows, key=lambda row: row[:2])).T
    request = np.cumsum(np.diff(time * USERS + user, prepend=-1) != 0) - 1
    day = 86_400 * 10**6
    table = {
        "row_id": np.arange(len(time)),
        "request": request,
        "user": user.astype(np.int32),
        "item": item.astype(np.int32),
        "timestamp": time,
        "label": label.astype(np.int8),
        "split": np.array(["train", "validation", "test"])[np.digitize(time, [7 * day, 9 * day])],
        "history_start": start,
        "history_end": end,
        **{name: np.zeros(len(time), np.float32) for name in ("item_age", "item_clicks_1h", "user_gap")},
        "device": pa.nulls(len(time), pa.string()),
    }
    pq.write_table(pa.table(table), directory / "rows.parquet")
    return directory


def test_a_teacher_that_sees_what_came_after_knows_training_rows_better_and_others_as_well(sessions: Path, tmp_path: Path) -> None:
    auc: dict[int, dict[str, float]] = {}
    for later in (0, 3):
        assembly = Assembly(sessions, 5, later_clicks=later)
        (_, until), rows = assembly.training_window(), rows_of(assembly)
        encoder, *_ = pretrain(assembly, PRETRAIN, job_at(tmp_path / f"{later}" / "pretraining.pt"), until=microseconds(until))
        model, _ = finetune_members([encoder], rows, CONFIG, job_at(tmp_path / f"{later}" / "training.pt"), pretraining_rate=5e-3)
        samples = {"train": rows.train, "hidden": replace(rows.train, later=None), "validation": rows.validation}
        auc[later] = {name: auc_score(one.label, predict(model, one)[:, 0]) for name, one in samples.items()}
    assert auc[3]["train"] > auc[0]["train"] + 0.15
    assert auc[3]["hidden"] < auc[3]["train"] - 0.15  # it is what came after that it knows it by
    assert auc[3]["validation"] > auc[0]["validation"] - 0.02 > 0.6
