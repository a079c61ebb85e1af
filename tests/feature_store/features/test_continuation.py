"""Rows of a run that continues an earlier one: all that is new, some of what is old, and every token where it was."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.features import continuation as continuation_module
from feature_store.features import row_writer as rows
from feature_store.features.continuation import Continuation
from feature_store.features.summary import ClickSummary
from feature_store.features.time_split import Split, utc
from feature_store.features.training_set import assemble
from tests.feature_store.features.test_training_set import ENGINE, busy_log, settings
from tests.feature_store.logs import write_store

SPLIT = {"train": "8h", "validation": "2h", "test": "2h"}


def continuation(since: datetime, replay: float = 0.5, seed: int = 0) -> Continuation:
    return Continuation(since, replay, seed, {"item": ["gone", "3", "1"], "device": ["phone"]})


def requests(folder: Path, split: str) -> set[tuple[int, int]]:
    found = pq.read_table(folder / "rows.parquet", filters=[("split", "=", split)])
    return set(zip(found["timestamp"].to_pylist(), found["user"].to_pylist(), strict=True))


@pytest.fixture(autouse=True)
def no_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation_module, "FEWEST", 0)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_new_rows_stay_and_older_ones_are_thinned(tmp_path: Path, has_impressions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store", busy_log(has_impressions, 900), has_impressions)
    config = settings(split=SPLIT, history={"max_length": 4, "min_length": 0})
    whole = assemble(store, config, ENGINE, None, tmp_path / "whole")
    since = whole.split.train_until - timedelta(hours=2)
    thinned = assemble(store, config, ENGINE, None, tmp_path / "thinned", continuation=continuation(since))

    for split in ("validation", "test"):
        same = (pq.read_table(tmp_path / name / "rows.parquet", filters=[("split", "=", split)]) for name in ("whole", "thinned"))
        first, second = (table.sort_by("row_id").drop_columns(["row_id"]) for table in same)
        assert first.equals(second)
    all_of_them, kept = requests(tmp_path / "whole", "train"), requests(tmp_path / "thinned", "train")
    assert kept < all_of_them
    new = {one for one in all_of_them if utc(one[0]) >= since}
    assert new <= kept
    replayed = len(kept) - len(new)
    assert 0.2 * len(new) < replayed < 0.9 * len(new)  # half as many, by chance
    assert thinned.excluded["not_replayed"] > 0 and sum(thinned.excluded.values()) - thinned.excluded["not_replayed"] <= sum(
        whole.excluded.values()
    )

    # whatever the chunks are, of which some have no request left; another seed keeps others
    monkeypatch.setattr(rows, "ROW_GROUP", 50)
    small = ENGINE.model_copy(update={"chunk": 7})
    assemble(store, config, small, None, tmp_path / "small", continuation=continuation(since))
    assert pq.read_table(tmp_path / "small" / "rows.parquet").equals(pq.read_table(tmp_path / "thinned" / "rows.parquet"))
    assert ClickSummary.read(tmp_path / "small") == ClickSummary.read(tmp_path / "thinned")
    assemble(store, config, ENGINE, None, tmp_path / "other", continuation=continuation(since, seed=1))
    assert requests(tmp_path / "other", "train") != kept


def test_without_replay_only_what_is_new_is_learned_and_with_much_of_it_everything(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", busy_log(True, 900), True)
    config = settings(split=SPLIT)
    whole = assemble(store, config, ENGINE, None, tmp_path / "whole")
    since = whole.split.train_until - timedelta(hours=2)
    assemble(store, config, ENGINE, None, tmp_path / "none", continuation=continuation(since, 0.0))
    assert all(utc(time) >= since for time, _ in requests(tmp_path / "none", "train"))
    assemble(store, config, ENGINE, None, tmp_path / "all", continuation=continuation(since, 1000.0))
    assert requests(tmp_path / "all", "train") == requests(tmp_path / "whole", "train")


def test_vocabularies_grow_at_their_end(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", busy_log(True), True)
    config = settings()
    assemble(store, config, ENGINE, None, tmp_path / "whole")
    since = datetime(2024, 1, 1, tzinfo=UTC)
    assemble(store, config, ENGINE, None, tmp_path / "grown", continuation=continuation(since))
    before, after = (json.loads((tmp_path / name / "vocabulary.json").read_text()) for name in ("whole", "grown"))
    assert after["item"][:3] == ["gone", "3", "1"] and set(after["item"]) == {"gone", *before["item"]}
    assert after["item"][3:] == [one for one in before["item"] if one not in ("3", "1")]
    assert all(
        tokens[: len(known)] == known for tokens, known in ((after[name], continuation(since).vocabulary.get(name, [])) for name in after)
    )


def test_the_largest_vocabulary_takes_no_more(tmp_path: Path) -> None:
    assert continuation(datetime(2024, 1, 1)).grown({"item": ["7", "3", "8"]}, 4) == {"item": ["gone", "3", "1", "7"]}
    assert continuation(datetime(2024, 1, 1)).grown({"item": ["7"]}, 2) == {"item": ["gone", "3", "1"]}


def test_a_quiet_night_learns_again_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store", busy_log(True, 900), True)
    whole = assemble(store, settings(split=SPLIT), ENGINE, None, tmp_path / "whole")
    monkeypatch.setattr(continuation_module, "FEWEST", 100)
    assemble(store, settings(split=SPLIT), ENGINE, None, tmp_path / "quiet", continuation=continuation(whole.split.train_until))
    assert 70 < len(requests(tmp_path / "quiet", "train")) < 130


class Counted:
    """An engine that counted 20,000 older requests and 8,000 new ones."""

    def rows(self, query: str) -> list[tuple[int, int]]:
        return [(20_000, 8_000)]


def replayed(times: np.ndarray, users: np.ndarray, since: int, seed: int = 0) -> np.ndarray:
    condition = continuation(utc(since), seed=seed).condition(Counted(), Split(None, since + 1, 0, 0))  # type: ignore[arg-type]
    log = pa.table({"timestamp": times, "user_code": users.astype(np.int32)})  # as the engine has them
    assert log.num_rows == 20_000
    return np.asarray(duckdb.sql(f"select timestamp + user_code as one from log where {condition}").fetchnumpy()["one"])


def test_chance_is_even_over_the_times_of_a_day() -> None:
    """The hash of a time must not prefer some of them: a thinned window would be another log."""
    times = np.arange(20_000, dtype=np.int64) * 1_000_000 + 1_704_067_200_000_000
    kept = replayed(times, np.zeros(20_000, np.int64), int(times[-1]) + 1)
    assert abs(len(kept) - 4_000) < 4 * 57
    by_hour, _ = np.histogram(kept, bins=10, range=(times[0], times[-1]))
    assert by_hour.min() > 330 and by_hour.max() < 470


def test_every_night_learns_other_rows_again() -> None:
    times = np.arange(20_000, dtype=np.int64) * 1_000_000 + 1_704_067_200_000_000
    nights = [set(replayed(times, np.zeros(20_000, np.int64), int(times[-1]) + 1 + n * 86_400_000_000).tolist()) for n in range(3)]
    for first, second in itertools.pairwise(nights):
        assert len(first & second) < 0.3 * len(first)  # a fifth of all is drawn


def test_a_log_of_whole_days_is_thinned_user_by_user() -> None:
    day = np.full(20_000, 1_704_067_200_000_000, np.int64)
    assert abs(len(replayed(day, np.arange(20_000) * 100_000, int(day[0]) + 1)) - 4_000) < 4 * 57
