"""The benchmark of texts' speed measures what it says, on a tiny teacher."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_text_speed import measure
from ctr_kd.config import EncoderConfig


def test_every_rate_is_there(tmp_path: Path) -> None:
    found = measure(tmp_path, titles=64, batch=16, seconds=0.01, teacher=EncoderConfig(width=8, layers=1, heads=2))
    assert set(found["ratio_to_teacher"]) == set(found["rows_per_second"]) - {"teacher"}
    assert all(value > 0 for value in found["rows_per_second"].values())
