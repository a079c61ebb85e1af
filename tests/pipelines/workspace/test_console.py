"""Log lines for people and for machines, on one stream, in the order in which they were written."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest

from feature_store.tables.contracts import DataError
from pipelines.exit_codes import explain
from pipelines.workspace import console as module
from pipelines.workspace.console import LOGGER, Console
from pipelines.workspace.tables import text_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_is_a_line_with_its_time_and_its_stage() -> None:
    console = Console(stream := io.StringIO())
    console.report("begins", "distill", fingerprint="ab")
    console.report("[no markup] 100 % %s")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d distill: begins", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[no markup\] 100 % %s", second)


def test_on_a_terminal_there_is_no_time() -> None:
    console = Console(stream := Terminal())
    console.report("[begins]", "distill")
    assert stream.getvalue() == "distill: [begins]\n"


def test_json_is_an_object_per_line_whatever_the_text_holds() -> None:
    console = Console(stream := Terminal(), "json")
    console.report('a "line"\nand another', "ingest", rows=3, share=0.5, names=["é"])
    console.report("student: warning: not calibrated", "distill")
    with console.progress("training", 3, "distill") as progress:
        progress.advance()  # no bar, though it is a terminal
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert set(first) == {"time", "level", "stage", "message", "fields"}
    assert (first["level"], first["stage"], first["message"]) == ("INFO", "ingest", 'a "line"\nand another')
    assert first["fields"] == {"rows": 3, "share": 0.5, "names": ["é"]}
    assert (second["level"], second["message"]) == ("WARNING", "student: warning: not calibrated")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_progress_is_said_in_lines_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, log_format: module.LogFormat) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    console = Console(stream := io.StringIO(), log_format)
    with console.progress("training", 2000, "distill") as progress:
        progress.advance(1500, loss=0.25)
    (line,) = stream.getvalue().splitlines()
    if log_format == "text":
        assert line[9:] == "distill: training 1,500/2,000 loss 0.25"
    else:
        assert json.loads(line)["fields"] == {"done": 1500, "total": 2000, "loss": 0.25}


def test_two_consoles_write_to_their_own_streams_and_a_handler_of_others_gets_both() -> None:
    streams, heard = (io.StringIO(), io.StringIO()), io.StringIO()
    handler = logging.StreamHandler(heard)
    logging.getLogger(LOGGER).addHandler(handler)
    logging.getLogger().addHandler(handler)  # of the root logger, which hears nothing
    try:
        for number, stream in enumerate(streams):
            Console(stream).report(f"run {number}")
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)
        logging.getLogger().removeHandler(handler)
    assert [stream.getvalue()[9:] for stream in streams] == ["run 0\n", "run 1\n"]
    assert heard.getvalue() == "run 0\nrun 1\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_comes_from_outside_stays_in_its_line(log_format: Any) -> None:
    hostile = "item \x1b[2J\nerror: all is lost [bold red]x[/]"
    stream = io.StringIO()
    console = Console(stream, log_format)
    console.report(hostile)
    console.fail(hostile)
    assert len(stream.getvalue().splitlines()) == 2 and "\x1b" not in stream.getvalue() and "[bold red]x[/]" in stream.getvalue()
    assert explain(DataError(hostile)) == "item \\x1b[2J error: all is lost [bold red]x[/]"
    assert "\x1b" not in text_table([("name",), (hostile,)]) and len(text_table([("name",), (hostile,)]).splitlines()) == 2


def test_a_console_that_logs_prints_nothing_and_is_heard_as_any_library(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    console = Console.logging()
    console.report("unheard", "distill")
    with caplog.at_level(logging.INFO, LOGGER):
        console.report("begins", "distill", fingerprint="ab")
        console.report("warning: not calibrated", "distill")
        with console.progress("training", 20, "distill") as progress:
            progress.advance(3, loss=0.5)
        console.fail("all is lost")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "distill: begins"),
        ("WARNING", "distill: warning: not calibrated"),
        ("INFO", "distill: training 3/20 loss 0.5"),
        ("ERROR", "all is lost"),
    ]
    assert caplog.records[0].__dict__["stage"] == "distill" and caplog.records[0].__dict__["fields"] == {"fingerprint": "ab"}
    assert capfd.readouterr() == ("", "")
