"""The generated pages leave nothing out: every command and option, every key, every module."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from docs._generate import api, command_line, configuration
from docs._generate.network import fetched
from pipelines.cli.main import cli
from pipelines.config.run import RunConfig

COMMANDS = command_line.page(cli)
CONFIGURATION = configuration.page()


def section(page: str, heading: str) -> str:
    """Text below a heading of the second level."""
    match = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert match is not None, heading
    return match[1]


@pytest.mark.parametrize("name", cli.commands)
def test_a_command_has_its_help_and_all_options(name: str) -> None:
    command, shown = cli.commands[name], section(COMMANDS, name)
    shared = section(COMMANDS, "Options of every command")
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        assert re.search(rf"^\| `[^`]*{option.opts[0]}\b", shown + shared, re.MULTILINE), option.opts
    words = " ".join((command.help or "").split("\b")[0].split())
    assert words and words in " ".join(shown.split())


def test_blocks_of_a_help_text_keep_their_lines() -> None:
    page = command_line.page(click.Group(commands=[click.Command("do", help="Does.\n\n\b\nExamples:\n  do a    b\n  do c")]))
    assert "Does.\n\nExamples:\n\n```text\ndo a    b\ndo c\n```\n" in page
    assert "\b" not in COMMANDS


def test_an_option_without_a_word_of_help_is_refused() -> None:
    with pytest.raises(ValueError, match="--mute says nothing of itself"):
        command_line.page(click.Group(commands=[click.Command("do", params=[click.Option(["--mute"])])]))


def schema_keys(schema: dict[str, Any], definitions: dict[str, Any], above: str = "") -> Iterator[str]:
    """Dotted keys below an object of a JSON schema; a list of objects is a value."""
    for name, value in schema.get("properties", {}).items():
        path = f"{above}{name}"
        references = [part["$ref"].rpartition("/")[2] for part in (value, *value.get("anyOf", [])) if "$ref" in part]
        blocks = [definitions[reference] for reference in references if "properties" in definitions[reference]]
        if blocks:
            yield from schema_keys(blocks[0], definitions, f"{path}.")
        else:
            yield path


def test_every_key_has_a_row() -> None:
    """By the JSON schema, which knows nothing of the generator."""
    schema = RunConfig.model_json_schema(by_alias=True)
    expected = list(schema_keys(schema, schema["$defs"]))
    assert len(expected) > 100
    assert sorted(re.findall(r"^\| `([\w.]+)` \|", CONFIGURATION, re.MULTILINE)) == sorted(expected)


def test_every_key_has_a_meaning() -> None:
    assert [key.path for key in configuration.all_keys() if not key.field.description] == []


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("split.train", "duration; or null | `null` | "),
        ("pretrain.training.batch_size", "whole number, ≥ 1; or `auto` | `auto` | "),  # its block's default, not that of a training
        ("pretrain.training.unknown_rate", "number, ≥ 0, &lt; 1; or `auto` | `0.1` | "),
        ("finetune.training.unknown_rate", "number, ≥ 0, &lt; 1; or `auto` | `auto` | "),
        ("register.auc_min", "number, ≥ 0, ≤ 1 | `0.5` | "),
        ("source.reader", " | required | "),
    ],
)
def test_a_row_has_type_and_default(key: str, row: str) -> None:
    line = next(line for line in CONFIGURATION.splitlines() if line.startswith(f"| `{key}` |"))
    assert row in line


def test_every_module_is_on_one_page() -> None:
    expected = [
        ".".join(path.relative_to(api.ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in api.PACKAGES
        for path in (api.ROOT / package).rglob("*.py")
        if path.stem == "__init__" or not path.stem.startswith("_")
    ]
    shown = [module for room in api.rooms() for module in room.modules]
    assert len(shown) == len(set(shown))
    without = set(expected) - set(shown)
    assert all(api.docstring(api.file_of(module)) == "" for module in without), without


def test_links_to_other_servers_are_no_parts_of_a_page() -> None:
    html = '<a href="https://a.org">a</a><img src="here.png"><script src="//b.org/x.js"></script><pre class="mermaid"></pre>'
    assert list(fetched(html)) == ["//b.org/x.js", "mermaid"]


def test_the_first_page_of_the_api_begins_with_the_public_names() -> None:
    lines = list(api.index())
    assert lines[0] == "## Public names"
    table = "\n".join(lines[: lines.index("## feature_store")])
    for package in api.PACKAGES:
        for name in set(importlib.import_module(package).__all__) - {"__version__"}:
            assert re.search(rf"^\| \[`{package}\.{name}`\]\(api/[\w/]+\.md#[\w.]+\.{name}\) \| \S", table, re.MULTILINE), name
