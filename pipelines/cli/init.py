"""The commands before the first run: one writes a configuration for the files of a folder, one says what of a log does not fit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from feature_store.config import SourceConfig
from feature_store.config_types import is_url
from feature_store.readers.remote import copy_of
from feature_store.readers.remote_log import copy_of_log, copy_of_table, table_url
from pipelines.cli.options import Options, Place, Source, common
from pipelines.config.run import load
from pipelines.errors import ConfigError

EXAMPLE = """# A configuration. This one needs no data: it makes a click log of its own, and `ctr-kd run` takes minutes.
source:
  reader: simulated

# Your own log: name its columns (ctr-kd init FOLDER does it for you), and remove the block above.
# source:
#   reader: tabular
#   events: {path: "events/*.parquet", user: user_id, item: item_id, time: timestamp, clicked: clicked, request: request_id}
#   items: {path: items.parquet, item: item_id, categorical: [category], dense: []}
#   users: {path: users.parquet, user: user_id, categorical: [age_group]}
#   context: {categorical: [device], dense: [position]}

# Three windows in order of time, which end with the log.
split: {train: 9d, validation: 2d, test: 2d}

# All other keys have defaults; this prints them with their meanings:  ctr-kd config conf.yaml
"""


@click.command("init")
@click.argument("data", type=Source(), required=False)
@click.option(
    "--output", type=Place(), default="conf.yaml", show_default=True, help="The file to write; one that is there is never replaced."
)
def init_command(data: Path | str | None, output: Path) -> None:
    """Write a configuration to start from: for the files in DATA, or without DATA an example.

    Looks at the first rows of the files below a folder, and at the times of all clicks: which files hold events, items and users, which
    column is what, what is an input and what is not, and which windows hold enough clicks. What it guessed and why stands beside each line;
    read it over, then run `ctr-kd check`.

    \b
    Examples:
      ctr-kd init                                            an example, in conf.yaml
      ctr-kd init data/shop --output conf/shop.yaml
    """
    if output.exists():
        raise ConfigError(f"{output}: is there already and stays as it is; name another file with --output")
    text = EXAMPLE
    if data is not None:
        with _folder(data) as folder:
            text = "\n".join(_lines(folder, data)) + "\n"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{output}: is there already and stays as it is; name another file with --output") from None
    load(output, ())  # what is written can be read
    click.echo(text, nl=False)
    named = "" if data is None else f" --data {data}"
    click.echo(f"\nwritten to {output}; next: ctr-kd check {output}{named}", err=True)


@contextmanager
def _folder(data: Path | str, source: SourceConfig | None = None) -> Iterator[Path]:
    """The folder itself, or for so long a copy of what is behind a URL: all of it, or what a log needs."""
    if isinstance(data, Path):
        yield data
        return

    def say(line: str) -> None:
        click.echo(f"{'init' if source is None else 'check'}: {line}", err=True)

    with TemporaryDirectory(prefix="ctr_kd_") as scratch:
        raw = Path(scratch) / "raw"
        yield copy_of(data, raw, say) if source is None else copy_of_log(source, data, raw, say)


@contextmanager
def _tables(source: SourceConfig) -> Iterator[dict[str, str]]:
    """Patterns of copies, for so long, of items and users that are behind URLs of their own."""
    blocks = {"items": source.items, "users": source.users}
    with TemporaryDirectory(prefix="ctr_kd_") as scratch:
        yield {
            kind: str(copy_of_table(block.path, Path(scratch) / kind, lambda line: click.echo(f"check: {line}", err=True)))
            for kind, block in blocks.items()
            if block is not None and is_url(block.path)
        }


def _lines(data: Path, named: Path | str) -> Iterator[str]:
    """A configuration for a folder, with what was guessed and why."""
    from feature_store.readers import LOG_READERS
    from feature_store.readers.base import data_folder
    from feature_store.readers.proposal import Described, known_layout, propose
    from feature_store.readers.proposed_inputs import Column
    from feature_store.readers.proposed_split import propose_split

    reader = known_layout(data_folder(data, "tabular"))
    if reader is not None:
        yield f"# The files of {named} are laid out as those of {reader}, which has a reader of its own."
        yield from ("source:", f"  reader: {reader}")
        known = LOG_READERS[reader](SourceConfig(reader=reader), data)
        yield from _split(*propose_split(known.read(known.files())))
        return
    found = propose(data, lambda line: click.echo(f"init: {line}", err=True))

    def because(columns: Sequence[Column], indent: str) -> Iterator[str]:
        yield from (f"{indent}#   {column.name}: {column.why}" for column in columns)

    def described(kind: str, of: Described) -> Iterator[str]:
        yield f"  {kind}s:"
        yield f"    path: {_text(of.table.pattern)}"
        yield f"    {kind}: {_text(of.key.name)}  # {of.key.why}"
        for name, columns in (("categorical", of.categorical), ("multi", of.multi), ("dense", of.dense), ("vector", of.vector)):
            if columns:
                yield f"    {name}: {_list(columns)}"
                yield from because(columns, "    ")
        if of.time is not None:
            yield f"    time: {_text(of.time.name)}  # {of.time.why}"
        if of.text is not None and kind == "item":
            yield f"    text: {_text(of.text)}  # titles; with {{column: ..., encoder: FOLDER}} models read vectors of them"
        if of.left:
            yield "    # not used:"
            yield from because(of.left, "    ")

    yield f"# Guessed by ctr-kd init from the files of {named}: read each line over, then run ctr-kd check."
    yield from ("source:", "  reader: tabular", "  events:")
    count = len(found.events.files)
    yield f"    path: {_text(found.events.pattern)}  # {count} file{'s' if count > 1 else ''}"
    for role, column in found.roles.items():
        yield f"    {role}: {_text(column.name)}  # {column.why}"
    for name in found.no_clicks:
        yield f"    # clicked: {_text(name)}  # holds other values than 0 and 1: make it 0 or 1, or each row counts as a click"
    if "clicked" not in found.roles:
        yield "    # no column of clicks was found: every row counts as a click, and what was shown beside it is sampled"
    elif "request" not in found.roles:
        yield "    # no column names the request (impression) of a row: rows of one user and moment are taken for one"
    if found.items is not None:
        yield from described("item", found.items)
    if found.users is not None:
        yield from described("user", found.users)
    if found.categorical or found.dense:
        yield "  context:  # what is known when a request is made; leave out what is not"
        for name, columns in (("categorical", found.categorical), ("dense", found.dense)):
            if columns:
                yield f"    {name}: {_list(columns)}"
                yield from because(columns, "    ")
    if found.left:
        yield "  # not used:"
        yield from because(found.left, "  ")
    for table in found.unknown:
        yield f"  # nothing is read of {table.name}: it {table.why}"
    yield from _split(found.split, found.split_why)


def _split(windows: Mapping[str, str], why: str) -> Iterator[str]:
    yield f"# {why}"
    yield f"split: {{{', '.join(f'{name}: {value}' for name, value in windows.items())}}}"


def _text(value: str) -> str:
    """A text as YAML reads it back; quotes where it could be taken for something else."""
    plain = value.replace("_", "").replace("-", "").replace("/", "").replace(".", "").isalnum() and value[0].isalpha()
    return value if plain and value.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n") else json.dumps(value)


def _list(columns: Sequence[object]) -> str:
    return f"[{', '.join(_text(column.name) for column in columns)}]"  # type: ignore[attr-defined]


@click.command("check")
@common
def check_command(options: Options) -> None:
    """Read the first rows of a log, and say all that will not fit, all at once. Nothing is stored.

    Looks at the names of all files' columns and at the first rows of some files: columns that are missing, values that break the contract,
    clicks that are all alike, a split beyond the log, items and users that nobody describes; and at teachers from elsewhere: files of
    scores, models and their signatures, plug-ins. Ends with 3 where something does not fit.

    \b
    Examples:
      ctr-kd check conf/mine.yaml --data data/mine
    """
    from feature_store.readers.first_rows import check_log
    from feature_store.tables.contracts import DataError
    from pipelines.stages.ingest import remembered_folder
    from pipelines.tasks.title_vectors import encoder_files

    config = options.config()
    data = options.data or table_url(config.source) or remembered_folder(options.workspace)
    with nullcontext() if data is None else _folder(data, config.source) as folder, _tables(config.source) as copies:
        found = check_log(config.source.with_copies(copies), config.need_clicks(), folder)
        if config.source.title_encoder is not None:
            try:
                encoder_files(config.source.title_encoder, folder)
            except DataError as error:
                found.faults.append(str(error))
        if any(teacher.kind != "own" for teacher in config.distill.teachers):
            from pipelines.training.teachers.first_look import teacher_faults

            found.faults.extend(teacher_faults(options.context(config, read_only=True), folder))
    for line in found.seen:
        click.echo(line)
    for line in found.faults:
        click.echo(f"does not fit: {line}")
    for line in found.doubts:
        click.echo(f"look at this: {line}")
    if found.faults:
        raise DataError(f"the log does not fit {options.conf}; the lines above say why")
    place = "" if options.data is None else f" --data {shlex.quote(str(options.data))}"
    click.echo(f"the first rows fit; next: ctr-kd run {options.conf} --workspace {options.workspace}{place}")
