"""Which model scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.cli.main import cli
from pipelines.config.run import describe
from pipelines.registry import champion, http_server
from pipelines.registry.champion import load_chosen_model
from pipelines.registry.registry import Registry
from pipelines.workspace.context import RunContext
from tests.pipelines.served import Served


def test_a_champion_that_changes_while_it_is_loaded_is_the_version_that_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, look_up = served.registry(), champion.model_version

    def look_up_and_lose(run: RunContext) -> str:
        version = look_up(run)
        registry.promote("2")
        return version

    monkeypatch.setattr(champion, "model_version", look_up_and_lose)
    chosen = load_chosen_model(served.context())
    assert (chosen.uri, chosen.version) == ("models:/demo@champion", "1")
    assert chosen.loaded.digest == load_chosen_model(served.context(model="models:/demo/1")).loaded.digest
    assert chosen.loaded.digest != load_chosen_model(served.context(model="models:/demo/2")).loaded.digest


def test_the_version_that_is_told_is_the_one_that_is_served(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    @contextmanager
    def checked(registry: Registry, uri: str) -> Iterator[tuple[None, Path]]:
        asked.append(uri)
        yield None, registry.download(uri)

    for name in ("application", "serve"):
        monkeypatch.setattr(http_server, name, lambda *_: None)
    monkeypatch.setattr(http_server, "checked_student", checked)
    (tmp_path / "demo.yaml").write_text(describe(served.config))
    arguments = ["serve", str(tmp_path / "demo.yaml"), "--workspace", str(served.workspace), "--port", "0"]
    cli.main(arguments, standalone_mode=False, obj={"workspace": None, "debug": False, "log_format": "text"})
    assert asked == ["models:/demo/1"]
