"""Progress is told now and then, and neither at once nor at the end."""

from __future__ import annotations

import pytest

from pipelines.workspace import progress
from pipelines.workspace.progress import Progress


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 6.0, 6.0, 7.0, 11.5, 11.5])  # a line takes the clock once more
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    lines: list[str] = []
    tell = Progress(lines.append, 3000, "rows labelled")
    for done in (500, 1000, 1500, 2000, 3000):
        tell(done)
    assert lines == ["1,000 of 3,000 rows labelled", "2,000 of 3,000 rows labelled"]
