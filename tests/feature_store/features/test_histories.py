"""Histories as offsets into the click pool, on literal logs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from feature_store.config import FeatureStoreConfig
from feature_store.engines.duckdb import EmbeddedEngine
from feature_store.features.event_log import load_log
from feature_store.features.histories import build_histories, write_clicks
from tests.feature_store.logs import MINUTE, START, Event, write_store


def pool(tmp_path: Path, log: list[Event], max_length: int) -> tuple[list[tuple[int, int, int, bool]], list[tuple[int, int, int, int]]]:
    """(user, item, minute, canonical) of each position, and (minute, user, start, end) of each moment."""
    with EmbeddedEngine(FeatureStoreConfig(threads=1), tmp_path / "scratch") as engine:
        load_log(engine, write_store(tmp_path / "store", log, False), None)
        build_histories(engine, max_length)
        write_clicks(engine, tmp_path / "clicks.parquet")
        moments = engine.rows(
            f"select moment, user_code, greatest(run_start, history_end - {max_length}), history_end from histories order by all"
        )
    clicks = pq.read_table(tmp_path / "clicks.parquet").to_pylist()
    rows = [(c["user"], c["item"], (c["timestamp"] - START) // MINUTE, c["canonical"]) for c in clicks]
    return rows, [((moment - START) // MINUTE, *rest) for moment, *rest in moments]


def test_without_late_clicks_each_user_has_one_sequence(tmp_path: Path) -> None:
    log = [Event(1, 5, 30), Event(0, 6, 20), Event(0, 5, 10), Event(1, 5, 40), Event(0, 7, 30)]
    rows, moments = pool(tmp_path, log, max_length=2)
    assert rows == [(0, 0, 10, True), (0, 1, 20, True), (0, 2, 30, True), (1, 0, 30, True), (1, 0, 40, True)]
    assert moments == [(10, 0, 0, 1), (20, 0, 0, 2), (30, 0, 1, 3), (30, 1, 3, 4), (40, 1, 3, 5)]


def test_a_late_click_starts_a_run_with_the_newest_clicks(tmp_path: Path) -> None:
    # known after minute 50: the click of minute 15. Until then histories are 10, 20, 40; from then on 10, 15, 20, 40, then 60.
    log = [Event(0, 0, 10), Event(0, 1, 20), Event(0, 2, 40), Event(0, 3, 15, delay=35), Event(0, 4, 60)]
    rows, moments = pool(tmp_path, log, max_length=3)
    assert [(minute, canonical) for _, _, minute, canonical in rows] == [
        *((10, False), (20, False), (40, False)),  # the first run
        *((10, True), (15, True), (20, True), (40, True), (60, True)),  # the last: complete and in order
    ]
    assert moments == [(10, 0, 0, 1), (20, 0, 0, 2), (40, 0, 0, 3), (50, 0, 4, 7), (60, 0, 5, 8)]


def test_a_run_between_two_late_clicks_copies_the_newest_only(tmp_path: Path) -> None:
    log = [*(Event(0, n, 10 * n) for n in range(6)), Event(0, 7, 45, delay=15), Event(0, 8, 70), Event(0, 9, 5, delay=75)]
    rows, moments = pool(tmp_path, log, max_length=2)
    runs = [[0, 10, 20, 30, 40, 50], [45, 50, 70], [0, 5, 10, 20, 30, 40, 45, 50, 70]]
    assert [minute for _, _, minute, _ in rows] == [minute for run in runs for minute in run]
    assert [canonical for *_, canonical in rows] == [False] * 9 + [True] * 9
    assert moments[-3:] == [(60, 0, 6, 8), (70, 0, 7, 9), (80, 0, 16, 18)]


def test_clicks_known_together_are_one_step(tmp_path: Path) -> None:
    # two of the three that become known at minute 60 are older than what was known: one new run, not two
    log = [Event(0, 0, 50), Event(0, 1, 20, delay=40), Event(0, 2, 30, delay=30), Event(0, 3, 55, delay=5)]
    rows, moments = pool(tmp_path, log, max_length=9)
    assert [minute for _, _, minute, _ in rows] == [50, 20, 30, 50, 55]
    assert moments == [(50, 0, 0, 1), (60, 0, 1, 5)]
