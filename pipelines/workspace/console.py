"""What a person sees while stages run: progress bars on a terminal, plain log lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts the steps of one piece of work; see :meth:`Console.progress`."""

    def __init__(self, console: Console, description: str, total: float | None, bar: Any = None) -> None:
        self.total = total
        self.done = 0.0
        self._console, self._description, self._bar = console, description, bar
        self._task = bar.add_task(description, total=total, facts="") if bar else None
        self._last = time.monotonic()

    def advance(self, steps: float = 1, **facts: float) -> None:
        """Count steps; ``facts`` (a loss, a rate) are shown beside them."""
        self.done += steps
        if self._bar:
            self._bar.update(self._task, completed=self.done, facts=_show(facts))
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of = "" if self.total is None else f"/{self.total:,.0f}"
            self._console.report(f"{self._description} {self.done:,.0f}{of} {_show(facts)}".rstrip())


class Console:
    """Where messages go.

    Parameters
    ----------
    stream : text stream
        Standard error by default: standard output is kept for results.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._rich: Any = None
        if self._stream.isatty():
            import rich.console

            self._rich = rich.console.Console(file=self._stream, highlight=False)

    def report(self, text: str) -> None:
        """Print one line."""
        if self._rich:
            self._rich.print(text, markup=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)

    @contextmanager
    def progress(self, description: str, total: float | None) -> Iterator[Progress]:
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
            yield Progress(self, description, total)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        with Bars(*columns, console=self._rich, transient=True) as bars:
            yield Progress(self, description, total, bars)


def _show(facts: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in facts.items())
