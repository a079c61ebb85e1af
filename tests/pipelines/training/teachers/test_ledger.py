"""The ledger: what was said once is found again by what the row holds, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store.tables.parquet_files import read_parquet
from pipelines.training.facts import TeacherFacts
from pipelines.training.teachers.ledger import Ledger, LedgerManifest
from pipelines.workspace.retention import removals

MANIFEST = LedgerManifest(name="mine", made=datetime(2024, 1, 1, tzinfo=UTC), facts=TeacherFacts(kind="plugin"))
ROWS = pa.table({"item": ["a", "b", "c"], "price": [1.0, 2.0, 3.0]})
LOGITS = np.array([[0.5], [-1.0], [2.0]])


def test_rows_are_found_by_what_they_hold_whatever_their_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "d" * 32)
    assert ledger.look_up(ROWS) is None and ledger.manifest is None
    ledger.add(ROWS.slice(0, 2), LOGITS[:2], MANIFEST)
    ledger.add(ROWS.slice(2), LOGITS[2:], MANIFEST)
    turned = ROWS.take([2, 0, 1]).select(["price", "item"])
    np.testing.assert_array_equal(Ledger(tmp_path, "d" * 32).look_up(turned), LOGITS[[2, 0, 1]])
    others = pa.table({"item": ["a", "z"], "price": [1.0, 1.0]})
    found = ledger.look_up(others)
    assert found is not None and found[0, 0] == 0.5 and np.isnan(found[1, 0])
    assert Ledger(tmp_path, "e" * 32).look_up(ROWS) is None
    assert ledger.manifest == MANIFEST


def test_rows_that_are_asked_about_in_their_old_order_read_each_file_once_or_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, logits = pa.table({"item": list(range(12))}), np.arange(12.0)[:, None]
    for begin in range(12):  # "10.parquet" comes behind "9.parquet"
        Ledger(tmp_path, "d" * 32).add(rows.slice(begin, 1), logits[begin : begin + 1], MANIFEST)
    read: list[str] = []

    def counted(file: Path) -> pa.Table:
        read.append(file.stem)
        return read_parquet(file)

    monkeypatch.setattr("pipelines.training.teachers.ledger.read_parquet", counted)
    ledger = Ledger(tmp_path, "d" * 32)
    for begin in range(12):
        np.testing.assert_array_equal(ledger.look_up(rows.slice(begin, 1)), logits[begin : begin + 1])
    assert read == ["0", *(str(number) for begin in range(1, 12) for number in (begin - 1, begin))]
    np.testing.assert_array_equal(ledger.look_up(rows), logits)  # wherever the reading begins


def test_a_damaged_file_is_said_and_removed_and_what_a_kill_left_is_never_read(tmp_path: Path) -> None:
    lines: list[str] = []
    ledger = Ledger(tmp_path, "d" * 32, lines.append)
    ledger.add(ROWS.slice(0, 1), LOGITS[:1], MANIFEST)
    ledger.add(ROWS.slice(1), LOGITS[1:], MANIFEST)
    file = ledger.folder / "1.parquet"
    file.write_bytes(file.read_bytes()[:40])
    (ledger.folder / ".2.partial").write_bytes(b"half")
    found = ledger.look_up(ROWS)
    assert found is not None and np.isnan(found[:, 0]).tolist() == [False, True, True]
    assert len(lines) == 1 and "1.parquet is damaged" in lines[0] and not file.exists()
    (ledger.folder / LedgerManifest.FILE).write_text("half", encoding="utf-8")
    assert ledger.look_up(ROWS) is None and "_manifest.json is damaged" in lines[-1]
    assert ledger.look_up(ROWS) is None  # as after a kill before the manifest


def test_scores_that_nobody_asked_for_lately_may_go(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "d" * 32)
    ledger.add(ROWS, LOGITS, MANIFEST)
    now = datetime.now(UTC)
    assert removals(tmp_path, [], 1, now - timedelta(days=1)) == []
    (one,) = removals(tmp_path, [], 1, now + timedelta(days=1))
    assert one.kind == "scores of a teacher" and one.path == ledger.folder
    one.carry_out()
    assert not ledger.folder.exists()


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, "d" * 32)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OSError, match="No space"):
        ledger.add(ROWS, LOGITS, MANIFEST)
    assert ledger.look_up(ROWS) is None and list(ledger.folder.iterdir()) == []
