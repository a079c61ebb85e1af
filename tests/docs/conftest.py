"""The package of the page about plug-ins, installed as it says."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store import plugins
from tests.feature_store.plugin_packages import install
from tests.programs import ROOT

PLUGINS_PAGE = (ROOT / "docs" / "how-to" / "plug-ins.md").read_text(encoding="utf-8")


def shown(language: str) -> str:
    """The page's first example in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PLUGINS_PAGE, re.DOTALL)[0]


@pytest.fixture
def own_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs it."""
    points = tomllib.loads(shown("toml"))["project"]["entry-points"]
    lines = {group: "\n".join(f"{name} = {place}" for name, place in named.items()) for group, named in points.items()}
    install(tmp_path / "site", "my_student", shown("python"), lines)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(plugins, "_registered", {})
    yield
    sys.modules.pop("my_student", None)
