"""The pages that are written by hand name everything that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctr_kd.evaluation.evaluate import PAIRS
from docs._generate import api
from pipelines import errors
from pipelines.stages import PIPELINE

DOCS = Path(__file__).parents[2] / "docs"


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def test_every_exit_code_of_an_error_has_a_row() -> None:
    found = {int(code) for code in re.findall(r"^\| (\d) \|", text("reference/exit-codes.md"), re.MULTILINE)}
    codes = {kind.code for kind in vars(errors).values() if isinstance(getattr(kind, "code", None), int)}
    assert codes and codes <= found == set(range(6))


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_every_stage_has_a_row_among_the_artifacts(stage) -> None:
    assert re.search(rf"^\| `{stage.name}` \|", text("reference/files.md"), re.MULTILINE)


def test_every_model_that_is_compared_is_named() -> None:
    page = text("reference/metrics-json.md")
    assert {name for pair in PAIRS for name in pair if f"`{name}`" not in page and name != "oracle"} == set()


@pytest.mark.parametrize("package", api.PACKAGES)
def test_the_architecture_names_every_room(package: str) -> None:
    section = re.search(rf"^## {package}$(.*?)^## ", text("development/architecture.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    named = set(re.findall(r"`(\w+)`(?=[^|\n]*\|[^|\n]*\|$)", section[1], re.MULTILINE))
    rooms = {path.name for path in (api.ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms and rooms <= named


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"`(?:\S* )?((?:feature_store|ctr_kd|pipelines|tests|conf|benchmarks)/[\w./-]+\.(?:py|sql|yaml))`", page.read_text("utf-8")
    )
    assert [name for name in named if name != "conf/NAME.yaml" and not (api.ROOT / name).is_file()] == []
