"""What a person sees while stages run: progress bars on a terminal, log lines otherwise, which may be JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from feature_store.tables.plain_text import plain

LogFormat = Literal["text", "json"]
LOGGER = "ctr_kd"  # the logger of the whole project: who embeds it adds handlers of their own to the logger of this name
WARNING = "warning: "  # marks the text of a warning, whoever wrote it: what learns knows no log
_SECONDS_BETWEEN_LINES = 10.0


class _Text(logging.Formatter):
    """``19:00:00 distill: begins``; without the time where a person watches."""

    def __init__(self, with_time: bool) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        time_of = f"{self.formatTime(record, '%H:%M:%S')} " if self._with_time else ""
        return time_of + _named(plain(record.getMessage()), record.stage)  # type: ignore[attr-defined]


class _Json(logging.Formatter):
    """One object per line.

    Examples
    --------
    >>> import io
    >>> Console(stream := io.StringIO(), "json").report("done", "distill", seconds=3.1)
    >>> line = json.loads(stream.getvalue())
    >>> line.pop("time")[-6:], line
    ('+00:00', {'level': 'INFO', 'stage': 'distill', 'message': 'done', 'fields': {'seconds': 3.1}})
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "stage": record.stage,  # type: ignore[attr-defined]
            "message": record.getMessage(),
            "fields": record.fields,  # type: ignore[attr-defined]
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class _Embedders(logging.Handler):
    """Passes lines that are printed on to the handlers of the project's logger, and to none above it: those of the root logger, which a
    library may configure, as MLflow's migrations of its database do, would repeat every line."""

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.getLogger(LOGGER).handlers:
            handler.handle(record)


class _Terminal(logging.Handler):
    """Prints above the bars of a terminal."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.print(self.format(record), markup=False)


class Progress:
    """Counts the steps of one piece of work; see :meth:`Console.progress`."""

    def __init__(self, console: Console, description: str, total: float | None, stage: str | None = None, bar: Any = None) -> None:
        self.total = total
        self.done = 0.0
        self._console, self._description, self._stage, self._bar = console, description, stage, bar
        self._task = bar.add_task(plain(_named(description, stage)), total=total, facts="") if bar else None
        self._last = time.monotonic()

    def advance(self, steps: float = 1, **facts: float) -> None:
        """Count steps; ``facts`` (a loss, a rate) are shown beside them."""
        self.done += steps
        if self._bar:
            self._bar.update(self._task, completed=self.done, facts=_show(facts))
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of = "" if self.total is None else f"/{self.total:,.0f}"
            text = f"{self._description} {self.done:,.0f}{of} {_show(facts)}".rstrip()
            self._console.report(text, self._stage, done=self.done, total=self.total, **facts)


class Console:
    """Where log lines and progress bars go.

    Parameters
    ----------
    stream : text stream
        Standard error by default: standard output is kept for results.
    log_format : "text" or "json"
        JSON is for machines: an object per line, and no bars.
    """

    def __init__(self, stream: TextIO | None = None, log_format: LogFormat = "text") -> None:
        stream = stream or sys.stderr
        self._names_stage = False  # its formatters do
        self._rich: Screen | None = None
        handler: logging.Handler = logging.StreamHandler(stream)
        if log_format == "json":
            handler.setFormatter(_Json())
        elif stream.isatty():
            self._rich = Screen(file=stream, highlight=False)
            handler = _Terminal(self._rich)
            handler.setFormatter(_Text(with_time=False))
        else:
            handler.setFormatter(_Text(with_time=True))
        # Not the logger of that name itself but one beside it: two runs in one process may write to two places.
        self._logger = logging.Logger(LOGGER, logging.INFO)
        self._logger.addHandler(handler)
        self._logger.addHandler(_Embedders())

    @classmethod
    def logging(cls) -> Console:
        """One that prints nothing: its lines go to ``logging.getLogger("ctr_kd")``, where the program that embeds this project decides of
        them. A line has its stage before it, and ``stage`` and ``fields`` as attributes of its record.

        Examples
        --------
        >>> logging.getLogger(LOGGER).isEnabledFor(logging.INFO)  # as for any library, until somebody configures logging
        False
        >>> Console.logging().report("begins", "distill")
        """
        console = cls.__new__(cls)
        console._rich, console._logger, console._names_stage = None, logging.getLogger(LOGGER), True
        return console

    def report(self, text: str, stage: str | None = None, **fields: Any) -> None:
        """Write one log line.

        Parameters
        ----------
        text : str
            One that holds ``warning:`` is a warning.
        stage : str, optional
            What the line is about: a stage, or a command.
        **fields
            Values for machines; those that a person wants to know are in the text too.
        """
        level = logging.WARNING if WARNING in text else logging.INFO
        self._logger.log(level, "%s", _named(text, stage) if self._names_stage else text, extra={"stage": stage, "fields": fields})

    def fail(self, text: str, **fields: Any) -> None:
        """Write the line that a failure ends in."""
        self._logger.error("%s", text, extra={"stage": None, "fields": fields})

    @contextmanager
    def progress(self, description: str, total: float | None, stage: str | None = None) -> Iterator[Progress]:
        """Show how far a piece of work has come, for the body of a ``with`` statement; its total may be unknown.

        Examples
        --------
        >>> import io
        >>> with Console(io.StringIO()).progress("training", total=3) as progress:
        ...     progress.advance(2, loss=0.7)
        >>> progress.done
        2.0
        """
        if not self._rich:
            yield Progress(self, description, total, stage)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
        )
        with Bars(*columns, console=self._rich, transient=True) as bars:
            yield Progress(self, description, total, stage, bars)


def _named(text: str, stage: str | None) -> str:
    return f"{stage}: {text}" if stage else text


def _show(facts: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in facts.items())
