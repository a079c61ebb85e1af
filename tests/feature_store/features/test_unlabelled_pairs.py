"""Rows without labels: pairs that never met, live at their time, with the features that any row would have."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.features.training_set import assemble
from feature_store.features.unlabelled_pairs import HARD_NEGATIVES, TRANSFER_SET, NoPairs, Purpose, write_unmet_rows
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, NotIngested
from tests.feature_store.features.test_point_in_time import same
from tests.feature_store.logs import FEW, MINUTE, START, Event, Naive, at, random_event, with_listed, write_store

pytestmark = pytest.mark.slow

ENGINE = FeatureStoreConfig(threads=1, memory="500MB")
UNTIL = 500  # minutes; end of training
CONFIG = AssemblyConfig.model_validate(
    {
        "split": {"train_until": at(UNTIL), "validate_until": at(540), "test_until": at(600)},
        "candidates": {"per_click": 2, "window": "2h"},
        "history": {"max_length": 4},
        "statistics": {"co_clicks": {"window": "1d"}},
        "vocabulary": {"min_count": 1},
    }
)
ITEMS = 30


def busy_log(has_impressions: bool, rows: int = 500, seed: int = 0) -> list[Event]:
    """Items come up one after the other, some clicks are known late, and all times are before minute 600."""
    rng = np.random.default_rng(seed)
    minute = np.sort(rng.integers(0, 600, rows))
    return [
        Event(
            user=int(rng.integers(0, 60)),
            item=int(rng.integers(0, 4 + at * (ITEMS - 4) // 600)),
            minute=int(at),
            clicked=int(rng.random() < 0.5) if has_impressions else 1,
            delay=int(rng.integers(1, 90)) if rng.random() < 0.15 else 0,
            request=int(rng.integers(0, 2)) if has_impressions and rng.random() < 0.8 else None,
            device=[None, "phone", "desktop"][rng.integers(0, 3)],
        )
        for at in minute
    ]


def near(items: int) -> np.ndarray:
    """Neighbours by number: the two before and the three after, whether they exist yet or not."""
    near = np.arange(items)[:, None] + np.array([1, -1, 2, -2, 3])
    return np.where((near >= 0) & (near < items), near, -1)


def make(
    folder: Path,
    log: list[Event],
    has_impressions: bool,
    amount: float = 0.3,
    seed: int = 3,
    config: AssemblyConfig = CONFIG,
    purpose: Purpose = TRANSFER_SET,
    **engine: Any,
) -> tuple[dict[str, int], list[dict[str, Any]], Store]:
    """An assembly and its transfer set, with raw ids in place of codes."""
    folder.mkdir(exist_ok=True)
    store = write_store(folder / "store", log, has_impressions) if not (folder / "store").exists() else Store(folder / "store")
    if not (folder / "out").exists():
        assemble(store, config, ENGINE, None, folder / "out")
    items, users = (pq.read_table(folder / "out" / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("item", "user"))
    settings = ENGINE.model_copy(update=engine)
    facts = write_unmet_rows(
        purpose,
        store,
        folder / "out",
        folder / "transfer.parquet",
        config=config,
        engine_config=settings,
        as_of=None,
        nearest=near(len(items)),
        amount=amount,
        seed=seed,
    )
    rows = pq.read_table(folder / "transfer.parquet").to_pylist()
    return facts, [{**row, "user": users[row["user"]], "item": items[row["item"]]} for row in rows], store


def check_rows(
    rows: list[dict[str, Any]], folder: Path, log: list[Event], config: AssemblyConfig, has_impressions: bool, until: int
) -> None:
    """What must hold of every row, by the naive rules."""
    naive = Naive(log, config, has_impressions)
    assembled = pq.read_table(folder / "out" / "rows.parquet").to_pylist()
    items, users = (pq.read_table(folder / "out" / f"{kind}s.parquet")[f"{kind}_id"].to_pylist() for kind in ("item", "user"))
    clicks = pq.read_table(folder / "out" / "clicks.parquet").to_pydict()
    met = {(users[row["user"]], items[row["item"]]) for row in assembled if row["split"] == "train"}
    met |= {(event.user, event.item) for event in log if event.time < until}
    requests: dict[int, dict[str, Any]] = {}
    for row in assembled:
        if row["split"] == "train":
            requests.setdefault(row["request"], row)
    assert [row["row_id"] for row in rows] == list(range(len(assembled), len(assembled) + len(rows)))
    assert [row["request"] for row in rows] == sorted(row["request"] for row in rows)
    assert len({(row["request"], row["item"]) for row in rows}) == len(rows)
    for row in rows:
        t, user, item = row["timestamp"], row["user"], row["item"]
        request = requests[row["request"]]
        assert (row["label"], row["split"]) == (-1, "train") and t < until
        for name in ("timestamp", "history_start", "history_end", "device"):
            assert row[name] == request[name], name
        assert user == users[request["user"]]
        assert (user, item) not in met
        # The leak test: somebody clicked the item before, within the window, and that was known.
        assert naive.in_window(item, t) > 0
        history = naive.history(user, t)
        assert [items[code] for code in clicks["item"][row["history_start"] : row["history_end"]]] == [e.item for e in history]
        for name, expected in naive.statistics(user, item, t).items():
            assert same(row[name], expected), (name, row, expected)
        for one in (one for block in config.statistics.of for one in block.statistics()):
            expected = naive.declared(one, Event(user, item, (t - START) // MINUTE, device=row["device"]))
            assert same(row[one.name], expected), (one, row, expected)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_rows_are_of_live_items_that_their_user_never_met_with_features_as_of_the_time(tmp_path: Path, has_impressions: bool) -> None:
    log = busy_log(has_impressions)
    of = [{"by": key, "count": "clicks", "windows": ["30m", "3h"], "age_of_last": True} for key in (["item", "device"], ["user", "device"])]
    config = AssemblyConfig.model_validate(CONFIG.model_dump() | {"statistics": {"of": of}})
    facts, rows, _ = make(tmp_path, log, has_impressions, config=config)
    train = sum(row["split"] == "train" for row in pq.read_table(tmp_path / "out" / "rows.parquet", columns=["split"]).to_pylist())
    assert facts["asked"] == 2 * round(0.3 * train / 2)
    assert facts["neighbours"] == facts["popularity"] == facts["rows"] / 2 == len(rows) / 2 and len(rows) > 0.9 * facts["asked"]
    check_rows(rows, tmp_path, log, config, has_impressions, START + UNTIL * 60 * 10**6)
    # At least half of the rows are near to something in the history; the items that came up late prove that liveness was needed.
    naive = Naive(log, CONFIG, has_impressions)
    close = [0 < min((abs(row["item"] - e.item) for e in naive.history(row["user"], row["timestamp"])), default=99) <= 3 for row in rows]
    assert sum(close) >= len(rows) / 2
    assert len({row["timestamp"] for row in rows}) > 0.3 * len({e.time for e in log if e.time < START + UNTIL * 60 * 10**6})
    assert pq.read_schema(tmp_path / "transfer.parquet").equals(pq.read_schema(tmp_path / "out" / "rows.parquet"))


def logs(has_impressions: bool) -> st.SearchStrategy[list[Event]]:
    """Logs with users who have not met every item; ties, repeats, late clicks and unknown times among them."""
    event = random_event(has_impressions, users=10, items=12, times=17)
    return with_listed(st.lists(event, min_size=50, max_size=100), users=10, items=12)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_rows_of_any_log_equal_the_naive_ones(has_impressions: bool) -> None:
    split = {"train_until": at(300), "validate_until": at(380), "test_until": at(600)}
    config = AssemblyConfig.model_validate(CONFIG.model_dump() | {"split": split})
    checked = 0

    @FEW
    @given(log=logs(has_impressions), amount=st.sampled_from([0.5, 1.0]))
    def check(log: list[Event], amount: float) -> None:
        nonlocal checked
        asked = [Event(2, 3, minute, request=7) for minute in (330, 340, 400, 410)]  # validation and test have clicks, and more than those
        asked += [replace(event, item=2, clicked=0) for event in asked if has_impressions]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                _, rows, _ = make(folder, log + asked, has_impressions, amount, config=config)
            except DataError as error:
                assert any(text in str(error) for text in ("split", "holds no click", "has no row", "is empty"))
                return
            check_rows(rows, folder, log + asked, config, has_impressions, START + 300 * 60 * 10**6)
            checked += 1

    check()
    assert checked > 3


@pytest.mark.parametrize("has_impressions", [False, True])
def test_hard_negatives_are_near_and_never_a_pair_that_met(tmp_path: Path, has_impressions: bool) -> None:
    """No click of the user among them, none that comes later in training either, and no item that was not live at the time."""
    log = busy_log(has_impressions)
    facts, rows, _ = make(tmp_path, log, has_impressions, purpose=HARD_NEGATIVES)
    assert facts["asked"] == round(0.3 * sum(r["split"] == "train" for r in pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist()))
    assert set(facts) == {"asked", "rows", "neighbours"} and facts["neighbours"] == facts["rows"] == len(rows) > 50
    check_rows(rows, tmp_path, log, CONFIG, has_impressions, START + UNTIL * 60 * 10**6)
    naive = Naive(log, CONFIG, has_impressions)
    assert all(min(abs(row["item"] - e.item) for e in naive.history(row["user"], row["timestamp"])) <= 3 for row in rows)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_the_file_depends_on_the_seed_and_not_on_chunks_or_threads(tmp_path: Path, has_impressions: bool) -> None:
    log = busy_log(has_impressions, rows=200)
    written = []
    for seed, engine in ((3, {}), (3, {"chunk": 41}), (3, {"chunk": 90, "threads": 2}), (4, {})):
        make(tmp_path, log, has_impressions, seed=seed, **engine)
        written.append((tmp_path / "transfer.parquet").read_bytes())
    assert written[0] == written[1] == written[2] != written[3]


@pytest.mark.parametrize("has_impressions", [False, True])
def test_what_happens_after_training_changes_no_row(tmp_path: Path, has_impressions: bool) -> None:
    log = busy_log(has_impressions)
    users, items = {e.user for e in log if e.minute < UNTIL}, {e.item for e in log if e.minute < UNTIL}
    before = [e for e in log if e.minute < UNTIL or (e.user in users and e.item in items)]
    later = [
        Event(user, item, UNTIL + 20, request=0 if has_impressions else None) for user in sorted(users)[:9] for item in sorted(items)[::3]
    ]
    _, rows, _ = make(tmp_path / "a", before, has_impressions)
    _, again, _ = make(tmp_path / "b", before + later, has_impressions)
    shared = [name for name in rows[0] if name not in ("row_id", "history_start", "history_end")]  # the pool has grown
    assert [[row[name] for name in shared] for row in rows] == [[row[name] for name in shared] for row in again]


def test_where_one_half_finds_less_so_does_the_other(tmp_path: Path) -> None:
    log = busy_log(False)
    assemble(write_store(tmp_path / "store", log, False), CONFIG, ENGINE, None, tmp_path / "out")
    items = pq.read_metadata(tmp_path / "out" / "items.parquet").num_rows
    few = np.full((items, 1), -1)
    few[0] = 1
    said: list[str] = []
    facts = write_unmet_rows(
        TRANSFER_SET,
        Store(tmp_path / "store"),
        tmp_path / "out",
        tmp_path / "transfer.parquet",
        config=CONFIG,
        engine_config=ENGINE,
        as_of=None,
        nearest=few,
        amount=1.0,
        seed=0,
        report=said.append,
    )
    assert 0 < facts["neighbours"] == facts["popularity"] < facts["asked"] / 2
    assert said[0].startswith(f"transfer set: {facts['rows']:,} of {facts['asked']:,} rows, as no more live items were found")


def test_mistakes_are_named(tmp_path: Path) -> None:
    log = busy_log(False)
    store = write_store(tmp_path / "store", log, False)
    assemble(store, CONFIG, ENGINE, None, tmp_path / "out")
    items = pq.read_metadata(tmp_path / "out" / "items.parquet").num_rows

    def fails(store: Store, nearest: np.ndarray, amount: float = 0.5) -> None:
        settings = {"config": CONFIG, "engine_config": ENGINE, "as_of": None, "seed": 0}
        write_unmet_rows(TRANSFER_SET, store, tmp_path / "out", tmp_path / "transfer.parquet", nearest=nearest, amount=amount, **settings)

    with pytest.raises(NoPairs, match="the transfer set is empty: no item was live"):
        fails(store, np.full((items, 3), -1))
    with pytest.raises(NoPairs, match=r"a transfer set of 1e-06 of .* training rows has no row"):
        fails(store, near(items), 1e-6)
    with pytest.raises(DataError, match=r"neighbours are given for 7 items, and the assembly has"):
        fails(store, near(7))
    other = write_store(tmp_path / "other", log[:-1], False)
    with pytest.raises(NotIngested, match=r"other: holds 499 clicks, the assembly 500"):
        fails(other, near(items))
