"""Tables: everything is said, whatever it holds and however narrow the terminal."""

from __future__ import annotations

import re

import pytest

from pipelines.workspace.tables import text_table

ROWS = [("date", "rows", "why"), ("2024-01-02", "1,500", "[red]no[/red] :smile: finished partition " + "x" * 200), ("2024-01-03", "-", "")]


def test_where_nobody_watches_a_row_is_a_line_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    title, first, second = text_table(ROWS, right=[1]).splitlines()
    assert title == "date         rows  why"
    assert first == f"2024-01-02  1,500  {ROWS[1][2]}"
    assert second == "2024-01-03      -"


def test_on_a_terminal_a_long_cell_is_folded_and_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = re.sub("\x1b\\[[0-9;]*m", "", text_table(ROWS)).splitlines()
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("x") == 200 and "[red]no[/red] :smile:" in lines[1]


def test_lines_may_be_indented() -> None:
    assert text_table([("a", "b"), ("1", "2")], indent=2).splitlines() == ["  a  b", "  1  2"]
