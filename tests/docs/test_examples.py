"""What the hand-written pages and the README tell people to type exists: commands, options, configurations, keys, imports, files."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipelines.cli.main import cli
from pipelines.config.run import RunConfig, load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [path for folder in ("getting-started", "concepts", "how-to") for path in sorted((ROOT / "docs" / folder).glob("*.md"))]
CLICKS = {"source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}}
TEXTS = {"source": {"reader": "text", "train": "train.tsv", "test": "test.tsv"}}


def name_of(value: Any) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Words that follow the program in every call of the command line."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            _, program, rest = line.partition(".venv/bin/ctr-kd ") if "bin/ctr-kd " in line else line.partition("-m pipelines ")
            if program and not rest.startswith("--help"):
                yield shlex.split(rest, comments=True)


def configuration(name: str, folder: Path) -> Path:
    """A configuration of the project, or the one that a page writes under this name."""
    if (ROOT / name).is_file():
        return ROOT / name
    name = name.replace(".tuned.yaml", ".yaml")  # which `tune` writes, of the same keys
    if (ROOT / name).is_file():
        return ROOT / name
    written = [block for page in PAGES for block in blocks(page, "yaml") if block.startswith(f"# {name}\n")]
    assert written, f"{name} is no configuration of the project, and no page writes it"
    path = folder / Path(name).name
    path.write_text(written[0], encoding="utf-8")
    return path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_the_program_s(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.parquet", "labelled.parquet"):
        Path(name).touch()
    for name, *words in commands(page):
        assert name in cli.commands, f"there is no ctr-kd {name}"
        command = cli.commands[name]
        context = command.make_context(name, list(words))  # raises where an option or a value is wrong
        options: Any = {parameter.name: parameter for parameter in command.params}
        if "conf" not in options:  # init, which writes one
            assert Path(context.params["output"]).suffix == ".yaml"
            continue
        assert isinstance(options["conf"], click.Argument)
        load(configuration(str(context.params["conf"]), tmp_path), context.params["overrides"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configurations_can_be_read(page: Path, tmp_path: Path, own_student: None) -> None:
    for block in blocks(page, "yaml"):
        # a page may show several ways to write one key, each in a line of its own
        ways = block.splitlines() if len(re.findall(r"^split:", block, re.MULTILINE)) > 1 else [block]
        for way in ways:
            values = yaml.safe_load(way)
            base = TEXTS if values.get("pretrain", {}).get("checkpoint") else CLICKS
            values = values if len(values) > 1 and "source" in values else {**base, **values}
            path = tmp_path / "shown.yaml"
            path.write_text(yaml.safe_dump(values), encoding="utf-8")
            load(path)


def key_paths(model: Any = RunConfig, above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}"
        yield path
        for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if hasattr(inner, "model_fields"):
                yield from key_paths(inner, f"{path}.")


KEYS = set(key_paths())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_in_the_text_exist(page: Path) -> None:
    blocks_of_keys = {key.partition(".")[0] for key in KEYS if "." in key}
    for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)\b[^`]*`", page.read_text(encoding="utf-8")):
        if name.partition(".")[0] in blocks_of_keys and not name.endswith((".json", ".html", ".yaml")):
            assert name in KEYS, f"there is no key {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_can_be_read_and_its_imports_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module != "pipelines.airflow_dag":  # Airflow has an environment of its own
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert re.findall(r"^make \w+|bin/ctr-kd \w+", text, re.MULTILINE)[:2] == ["make run", "make test"]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
