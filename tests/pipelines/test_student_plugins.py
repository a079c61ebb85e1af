"""Students of other packages through the real stages: installed, checked, trained, exported, swept; scored without their package."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from feature_store import plugins
from tests.feature_store.plugin_packages import install
from tests.pipelines.tiny_workspace import Workspace
from tests.programs import HANGS, ROOT

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[int, str, str]]


def test_the_example_is_installed_trained_registered_and_scores_without_its_package(whole_pipeline: Workspace, tmp_path: Path) -> None:
    site, copy = tmp_path / "site", tmp_path / "plugins"
    shutil.copytree(ROOT / "examples" / "plugins", copy)  # pip may build in the folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(copy)], check=True, timeout=HANGS)
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    program = [sys.executable, "-m", "pipelines"]
    changed = ["--set", "distill.student.kind=attention_pooling", "--set", "distill.student.attention=8"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    run = [*program, *workspace.command("run"), *changed]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert "student attention_pooling passes the checks" in done.stderr
    assert "made distill, evaluate, register, score in" in done.stdout
    configuration = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())["run"]["configuration"]
    assert configuration["distill"]["student"] | {"width": 32} == {
        "kind": "attention_pooling",
        "width": 32,
        "attention": 8,
        "hidden": 64,
        "dropout": 0.1,
    }
    assert importlib.util.find_spec("attention_student") is None  # as in production
    mlflow.set_tracking_uri(f"sqlite:///{workspace.path / 'mlflow.db'}")
    rows = {"history": [["1", "2"], []], "item_id": ["3", "4"], "timestamp": pd.Timestamp("2024-01-04")}
    scores = mlflow.pyfunc.load_model("models:/tiny@champion").predict(pd.DataFrame(rows))["score"]
    assert scores.between(0, 1).all()
    _, err = workspace.run("score", "--date", "2024-01-03")
    assert "candidates of 2024-01-03 scored" in err
    again = workspace.start("run", *changed)
    assert again.code == 2
    assert "there is no student 'attention_pooling'; there are pooled, bilstm, bilstm_pair, din, dcn; no plug-in is installed" in again.err


STUDENT = """
import torch
from ctr_kd.config_students import StudentConfig
from ctr_kd.models.pooled import Pooled

class Mine(Pooled):
    class Settings(StudentConfig):
        depth: int = 1

    def forward(self, *batch):
        logit = super().forward(*batch)
        {change}
        return logit
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a package with the student ``mine``, the pooled one with a line more."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(plugins, "_registered", {})

    def make(change: str = "pass") -> Path:
        return install(tmp_path / "site", "of_mine", STUDENT.format(change=change), {"ctr_kd.students": "mine = of_mine:Mine"})

    yield make
    sys.modules.pop("of_mine", None)


MINE = ("--set", "distill.student={kind: mine, width: 4, hidden: 8}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("raise IndexError('out of range')", "the student raises on a batch: IndexError: out of range"),
        ("logit = logit * torch.nan", "the student returns logits that are not finite on a batch"),
        ("logit = logit[1:]", "the student returns logits of shape"),
        ("logit = logit + batch[0].shape[1]", "the student fails a check: padding changes no output"),
        ("logit = logit + (float(len(batch[2])) if len(batch[2]) == 3 else 0.0)", "the exported graph answers as the model does"),
        ("logit = torch.special.i1e(logit)", "the student cannot be exported to ONNX"),
    ],
)
def test_a_broken_student_ends_in_one_line_before_it_is_trained(
    experiment: Run, mine: Callable[..., Path], tmp_path: Path, change: str, said: str
) -> None:
    mine(change)
    code, _, err = experiment("distill", *MINE)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("ctr-kd: distill.student.kind mine: ") and said in last
    assert "Traceback" not in err and "distill: student (mine)" not in err
    assert not list((tmp_path / "workspace" / "artifacts" / "distill").glob("*/_manifest.json"))


def test_another_source_of_a_student_trains_it_anew_and_nothing_else(experiment: Run, mine: Callable[..., Path]) -> None:
    module = mine()
    assert "made distill in" in experiment("distill", *MINE)[1]
    assert "nothing to do" in experiment("distill", *MINE)[1]
    module.write_text(module.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    code, out, _ = experiment("status", *MINE)
    assert code == 0 and "changed: student mine" in out
    assert "made distill in" in experiment("distill", *MINE)[1]


def test_a_sweep_and_a_proof_train_it_beside_ours(experiment: Run, mine: Callable[..., Path], tmp_path: Path) -> None:
    mine()
    code, out, err = experiment("sweep", *MINE, "--set", "sweep.kinds=[pooled, mine]", "--set", "sweep.widths=[4]")
    assert code == 0, err
    assert {"pooled", "mine"} <= {line.split()[0] for line in out.splitlines()}
    code, out, err = experiment("prove", *MINE, "--seeds", "1", "--set", "prove.ablation=[]")
    assert code == 0, err
    swept = json.loads(next((tmp_path / "workspace" / "artifacts" / "sweep").glob("*/sweep.json")).read_text())
    assert {one["name"] for one in swept["students"]} == {"pooled 4", "mine 4"}


OWN_EMBEDDINGS = """
from torch import nn

class Mine(nn.Module):
    def __init__(self, signature, settings):
        super().__init__()
        sizes = list(signature.tokens.values())
        self.item = nn.Embedding(sizes[0], settings.width, padding_idx=0)
        self.weigh = nn.Linear(settings.width, signature.outputs)

    def forward(self, a, length, of_row, b, categorical, dense):
        return self.weigh(self.item(a[:, :, 0]).sum(1).index_select(0, of_row) * self.item(b[:, 0, 0]))
"""


def test_a_student_of_two_methods_is_enough_unless_more_is_asked_for(experiment: Run, mine: Callable[..., Path]) -> None:
    mine().write_text(OWN_EMBEDDINGS, encoding="utf-8")
    plain = ("--set", "distill.student={kind: mine, width: 4}")
    code, out, err = experiment("distill", *plain)
    assert code == 0 and "made distill" in out, err
    code, _, err = experiment("distill", *plain, "--set", "distill.embeddings=teacher")
    assert code == 2
    assert "distill.embeddings: teacher needs a student whose embeddings are a TokenEmbedding called token" in err.splitlines()[-1]
    code, _, err = experiment("distill", *plain, "--set", "distill.hints.hidden=1")
    assert code == 2
    assert "hints need a student that sums up a history by itself; mine reads it anew for each candidate" in err.splitlines()[-1]
