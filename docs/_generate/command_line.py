"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

PROGRAM = "ctr-kd"
BLOCK = "\b"  # click's mark before a paragraph whose lines stay as they are


def page(cli: click.Group) -> str:
    """Markdown of every command: its usage, help, arguments and options.

    Parameters
    ----------
    cli : click.Group
        The program.
    """
    context = click.Context(cli, info_name=PROGRAM)
    commands = [(name, command) for name in cli.list_commands(context) if (command := cli.get_command(context, name)) is not None]
    of_runs = [command for _, command in commands if any(parameter.name == "conf" for parameter in command.params)]
    shared = set.intersection(*({_key(parameter) for parameter in command.params} for command in of_runs)) if of_runs else set()
    options = [parameter for parameter in of_runs[0].params if _key(parameter) in shared] if of_runs else []
    lines = [
        "# Command line",
        "",
        "This page is made from the program. `ctr-kd COMMAND --help` prints the same. `python -m pipelines` is the same program.",
        "",
        *_help(cli.help or ""),
        "",
        "| command | what it does |",
        "| --- | --- |",
        *(f"| [`{name}`](#{name}) | {_cell(command.get_short_help_str(200))} |" for name, command in commands),
        "",
        "The program takes these before the command:",
        "",
        *_table([parameter for parameter in cli.params if isinstance(parameter, click.Option)], click.Context(cli)),
        "",
        "## Options of every command",
        "",
        "They are those of all commands with a `CONF`, which is the YAML file that describes the run; "
        "[its keys](configuration.md) have a page of their own.",
        "",
        *_table(options, context),
        "",
    ]
    for name, command in commands:
        lines += [*_command(name, command, context, shared), ""]
    return "\n".join(lines)


def _command(name: str, command: click.Command, parent: click.Context, shared: set[tuple[str, ...]]) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    own = [parameter for parameter in command.params if _key(parameter) not in shared]
    arguments = [parameter.make_metavar(context) for parameter in command.params if isinstance(parameter, click.Argument)]
    of_run = shared <= {_key(parameter) for parameter in command.params}
    yield from (f"## {name}", "", "```text", " ".join([PROGRAM, name, *arguments, "[OPTIONS]"]), "```", "")
    yield from _help(command.help or "")
    options = [parameter for parameter in own if isinstance(parameter, click.Option)]
    if options:
        beside = "Beside the [options of every command](#options-of-every-command):" if of_run else "Options:"
        yield from ("", beside, "", *_table(options, context))


def _help(text: str) -> Iterator[str]:
    """A help text as Markdown: paragraphs, and a code block for each that keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        mark, _, rest = paragraph.partition("\n")
        if mark.strip() != BLOCK:
            yield from (" ".join(paragraph.split()), "")
            continue
        title, _, body = rest.partition("\n")
        yield from (title.strip(), "", "```text", *inspect.cleandoc(body).splitlines(), "```", "")


def _table(options: list[click.Parameter], context: click.Context) -> Iterator[str]:
    yield from ("| option | meaning | default |", "| --- | --- | --- |")
    for option in options:
        if isinstance(option, click.Option):
            metavar = "" if option.is_flag else f" {_metavar(option, context)}"
            help_text, bracketed = _default_in_brackets(option.help or _without_help(option))
            default = f"`{option.default}`" if option.show_default and option.default is not None else bracketed
            choices = ", ".join(f"`{choice}`" for choice in option.type.choices) if isinstance(option.type, click.Choice) else ""
            meaning = f"{help_text} One of {choices}." if choices else help_text
            yield f"| `{', '.join(option.opts)}{metavar}` | {_cell(meaning)} | {_cell(default)} |"


def _metavar(option: click.Option, context: click.Context) -> str:
    """What stands for an option's value; the values that it may have are in its meaning."""
    if option.metavar is None and isinstance(option.type, click.Choice):
        return (option.name or "").upper()
    return option.make_metavar(context).removesuffix(" RANGE")


def _default_in_brackets(text: str) -> tuple[str, str]:
    """A help text without the default that it names in brackets, and that default.

    Examples
    --------
    >>> _default_in_brackets("Number of seeds [default: prove.seeds, 5]")
    ('Number of seeds.', 'prove.seeds, 5')
    """
    match = re.fullmatch(r"(.*?)\s*\[default: (.*)\]", text)
    words, default = (match[1], match[2]) if match else (text, "")
    return words if words.endswith(".") else f"{words}.", default


def _without_help(option: click.Option) -> str:
    if "--help" in option.opts:
        return "Show this message and exit."
    raise ValueError(f"{option.opts[0]} says nothing of itself: give it a help text")


def _key(parameter: click.Parameter) -> tuple[str, ...]:
    return (type(parameter).__name__, *parameter.opts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
