"""What every command takes, and the types of its values."""

from __future__ import annotations

import functools
import io
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import click

from ctr_kd.training.distributed import ALONE, Processes, launched
from feature_store.config_types import is_url, parse_duration, parse_time
from pipelines.config.run import RunConfig, load
from pipelines.config.shipped import shipped_file
from pipelines.session import run_context
from pipelines.stages import PIPELINE
from pipelines.workspace.console import Console, LogFormat
from pipelines.workspace.context import RunContext

COMMON = ("conf", "data", "workspace", "overrides", "as_of", "first", "last", "force", "log_format")
STAGES = tuple(stage.name for stage in PIPELINE)


@dataclass(frozen=True)
class Options:
    """What every command takes."""

    conf: Path
    data: Path | str | None = None  # a text is a URL
    workspace: Path = Path("workspace")
    overrides: tuple[str, ...] = ()
    as_of: datetime | None = None
    first: str | None = None
    last: str | None = None
    force: bool = False
    log_format: LogFormat = "text"
    more: dict[str, Any] = field(default_factory=dict)

    def config(self) -> RunConfig:
        return load(self.conf, self.overrides)

    def starting(self, start: Literal["cold", "warm"]) -> Options:
        """The same with another ``training.start``."""
        return replace(self, overrides=(*self.overrides, f"training.start={start}"))

    def again(self, command: str, *changes: str) -> str:
        """A command line with the same configuration, log and workspace, and these keys changed."""
        words = ["ctr-kd", command, str(self.conf)]
        words += [] if self.data is None else ["--data", str(self.data)]
        words += ["--workspace", str(self.workspace)]
        words += [word for override in (*self.overrides, *changes) for word in ("--set", override)]
        words += [] if self.as_of is None else ["--as-of", self.as_of.strftime("%Y-%m-%dT%H:%M:%S")]
        return shlex.join(words)

    def context(self, config: RunConfig, read_only: bool = False, processes: Processes = ALONE) -> RunContext:
        # Helpers have nothing to say that the first process does not say as well.
        console = Console(None if processes.leads else io.StringIO(), self.log_format)
        return run_context(
            config, self.workspace, self.data, self.as_of, console, options=self.more, read_only=read_only, processes=processes
        )


class Place(click.Path):
    """A path of this machine, whatever it begins with: libraries take a ``~`` for a home folder, and a colon for the end of a scheme."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            str(path).encode()
        except UnicodeEncodeError:
            self.fail(f"{str(path)!r} is not UTF-8; rename it", param, ctx)
        first = path.parts[0] if path.parts else ""
        return path.absolute() if first.startswith("~") or ":" in first else path


class Configuration(Place):
    """A YAML file; a line says so where it is none of this place but one that comes with the project."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        conf = super().convert(value, param, ctx)
        file = shipped_file(conf)
        if file is not None and ctx is not None and launched()[0] == 0:
            log_format = ctx.find_root().ensure_object(dict).get("log_format", "text")
            Console(log_format=log_format).report(f"{conf} is no file here; read from {file}, which comes with the project")
        return conf


class Source(Place):
    """A folder or a file of this machine, or a URL, which is a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:  # type: ignore[override]
        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)


class Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Length(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Date(click.ParamType[date]):
    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date: write 2017-10-11", param, ctx)


def common(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command, gathered into one :class:`Options`; further ones land in ``more``."""
    decorators = (
        click.argument("conf", type=Configuration()),
        click.option(
            "--data",
            type=Source(),
            help="Folder of the raw log, or a URL such as s3://bucket/logs. Later commands on the same workspace may leave it out.",
        ),
        click.option(
            "--workspace",
            type=Place(file_okay=False),
            default="workspace",
            show_default=True,
            help="Where everything is kept.",
        ),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one configuration key; may be repeated."
        ),
        click.option(
            "--as-of", type=Time(), help="Logical time (UTC): nothing later is seen by any stage. Default: just after the newest event."
        ),
        click.option(
            "--from", "first", type=click.Choice(STAGES), metavar="STAGE", help="First stage; earlier ones run only where they are missing."
        ),
        click.option("--until", "last", type=click.Choice(STAGES), metavar="STAGE", help="Last stage."),
        click.option("--force", is_flag=True, help="Make these stages again even where they are up to date."),
        click.option(
            "--log-format",
            type=click.Choice(get_args(LogFormat)),
            default="text",
            show_default=True,
            is_eager=True,
            callback=set_log_format,
            help="Log lines on standard error for people, or for machines: JSON, an object per line.",
        ),
        click.option("--debug", is_flag=True, expose_value=False, is_eager=True, help="Show a traceback on failure.", callback=set_debug),
    )

    @functools.wraps(function)
    def command(**values: Any) -> None:
        common = {name: values.pop(name) for name in COMMON}
        function(Options(**common, more=values))

    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().ensure_object(dict)["debug"] = True


def set_log_format(context: click.Context, parameter: click.Parameter, value: LogFormat) -> LogFormat:
    """Remember it for the line that a failure ends in, whatever else is wrong with the command."""
    context.find_root().ensure_object(dict)["log_format"] = value
    return value
