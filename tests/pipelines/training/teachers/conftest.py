"""Fixtures for the teachers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.training.teachers.shop import Shop


@pytest.fixture(scope="session")
def finetuned_shop(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The folder of a shop whose BERT is fine-tuned, to be copied; its log has the column of scores in the store."""

    def make(folder: Path) -> None:
        Shop(folder / "shop").run([{"name": "bert"}], last="finetune")

    return made_once("shop", make) / "shop"


@pytest.fixture
def shop(finetuned_shop: Path, tmp_path: Path) -> Shop:
    return Shop(Path(shutil.copytree(finetuned_shop, tmp_path / "shop", symlinks=True)))
