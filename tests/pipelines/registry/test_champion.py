"""Which model scores."""

from __future__ import annotations

import pytest

from pipelines.registry import champion
from pipelines.registry.champion import load_chosen_model
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
