"""What a stage runs is part of its fingerprint: an edit of code is seen, an edit of words is not."""

from __future__ import annotations

import io
import shutil
from functools import partial
from pathlib import Path

import pytest

from pipelines.config.run import RunConfig
from pipelines.workspace import context as context_module
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from pipelines.workspace.source_digest import PACKAGES, ROOT, changed_modules, source_of

MODULE = '''"""Says what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from ctr_kd.rates import RATE

if TYPE_CHECKING:
    from ctr_kd.types import Kind


class Settings(BaseModel):
    """Settings."""

    width: int = Field(64, description="units")


def scale(x: np.ndarray, kind: Kind) -> np.ndarray:
    """Scaled."""
    from feature_store.store import Store  # only here

    return x * RATE
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "ctr_kd/__init__.py": "",
        "ctr_kd/model.py": MODULE,
        "ctr_kd/rates.py": "RATE = 2.0\n",
        "ctr_kd/types.py": "Kind = str\n",
        "ctr_kd/other.py": "X = 1\n",
        "feature_store/__init__.py": "",
        "feature_store/store/__init__.py": "from feature_store.store.store import Store\n",
        "feature_store/store/store.py": "from feature_store.engines.sql_template import render\n\n\nclass Store: ...\n",
        "feature_store/engines/__init__.py": "",
        "feature_store/engines/sql_template.py": "def render(): ...\n",
        "feature_store/sql/rows/all.sql": "select 1 -- one\n",
        "pipelines/workspace/artifacts.py": "Y = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after) + "\n", encoding="utf-8")  # of another length and time, so that nothing remembers it


def test_it_covers_what_is_imported_to_run_and_nothing_else(tree: Path) -> None:
    assert set(source_of("ctr_kd.model", tree)) == {
        *("ctr_kd.model", "ctr_kd.rates", "feature_store.store", "feature_store.store.store"),
        *("feature_store.engines.sql_template", "feature_store/sql"),
    }


@pytest.mark.parametrize(
    ("file", "before", "after", "changed"),
    [
        ("ctr_kd/model.py", '"""Says what it does."""', '"""Says it better."""', []),
        ("ctr_kd/model.py", '    """Scaled."""\n', "", []),
        ("ctr_kd/model.py", "# only here", "# here alone", []),
        ("ctr_kd/model.py", 'description="units"', 'description="hidden units"', []),
        ("ctr_kd/model.py", "    from ctr_kd.types import Kind", "    from ctr_kd.types import Kind, Other", []),
        ("ctr_kd/model.py", "x * RATE", "x + RATE", ["ctr_kd.model"]),
        ("ctr_kd/model.py", "Field(64,", "Field(32,", ["ctr_kd.model"]),
        ("ctr_kd/rates.py", "2.0", "3.0", ["ctr_kd.rates"]),
        ("ctr_kd/rates.py", "RATE = 2.0", "from ctr_kd.other import X\nRATE = 2.0", ["ctr_kd.other", "ctr_kd.rates"]),
        ("ctr_kd/types.py", "str", "int", []),
        ("feature_store/sql/rows/all.sql", "-- one", "-- the first", []),
        ("feature_store/sql/rows/all.sql", "select 1", "select 2", ["feature_store/sql"]),
    ],
)
def test_what_an_edit_changes(tree: Path, file: str, before: str, after: str, changed: list[str]) -> None:
    first = source_of("ctr_kd.model", tree)
    edit(tree / file, before, after)
    assert changed_modules(source_of("ctr_kd.model", tree), first) == changed


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this project's three packages."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "project" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "project"


def test_an_edit_of_a_student_concerns_the_stages_that_train_one(project: Path) -> None:
    stages = [f"pipelines.stages.{name}" for name in ("ingest", "pretrain", "finetune", "distill")]
    first = {stage: source_of(stage, project) for stage in stages}
    edit(project / "ctr_kd" / "models" / "dcn.py", "super().__init__(", "super().__init__(  # the same\n        ")
    assert {stage: source_of(stage, project) for stage in stages} == first
    edit(project / "ctr_kd" / "models" / "dcn.py", "class DCN(", "SLOPE = 0.1\n\n\nclass DCN(")
    changed = {stage: changed_modules(source_of(stage, project), first[stage]) for stage in stages}
    assert changed["pipelines.stages.ingest"] == []
    assert changed["pipelines.stages.distill"] == ["ctr_kd.models.dcn"]


def test_every_stage_of_the_pipeline_is_covered_with_what_it_computes() -> None:
    from pipelines.stages import PIPELINE

    covered = {stage.name: set(stage.source_digests) for stage in PIPELINE}
    assert {"feature_store.features.training_set", "feature_store/sql", "feature_store.readers.globo"} <= covered["ingest"]
    assert {"ctr_kd.models.bert", "ctr_kd.objectives.masked_item", "ctr_kd.training.loop"} <= covered["pretrain"]
    assert {"ctr_kd.models.click_bert", "ctr_kd.training.finetune"} <= covered["finetune"]
    assert {"ctr_kd.models.dcn", "ctr_kd.objectives.distillation", "ctr_kd.export.click_scorer"} <= covered["distill"]
    assert {"ctr_kd.metrics.ranking", "ctr_kd.report.page", "ctr_kd/report"} <= covered["evaluate"]
    assert {"pipelines.registry.pyfunc_model", "pipelines.registry.promotion_gate"} <= covered["register"]
    assert {"feature_store.features.historical_features", "pipelines.scoring.parts"} <= covered["score"]
    others = ("ctr_kd.baselines", "ctr_kd.export", "ctr_kd.report", "ctr_kd.metrics.bootstrap", "ctr_kd.objectives.distillation")
    assert not [name for name in covered["pretrain"] | covered["finetune"] if name.startswith(others)], "an edit there trains no BERT again"


def test_a_stage_whose_source_was_edited_runs_again(
    project: Path, tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_module, "source_of", partial(source_of, root=project))
    ran: list[str] = []

    def work(context: StageContext) -> None:
        ran.append(context.stage)
        (context.output / "out.txt").write_text("done")

    def runner() -> Runner:
        stages = [Stage("a", work, source="ctr_kd.models.bert"), Stage("b", work, upstream=("a",), source="ctr_kd.models.dcn")]
        stages.append(Stage("c", work, upstream=("b",), source="ctr_kd.models.bert"))
        return Runner(RunContext(config, tmp_path / "workspace", console=Console(io.StringIO())), stages)

    assert runner().run().made == ("a", "b", "c")
    assert runner().run().made == ()
    edit(project / "ctr_kd" / "models" / "dcn.py", "class DCN(", "SLOPE = 0.1\n\n\nclass DCN(")
    assert [state.state for state in runner().states()] == [
        "up to date",
        "made by other code (changed: ctr_kd.models.dcn)",
        "made by other code (by an earlier stage)",
    ]
    ran.clear()
    assert runner().run().made == ("b", "c") == tuple(ran)
    assert runner().run().made == ()
