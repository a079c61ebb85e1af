"""What ``status`` says of stages, beside what the runner finds."""

from pathlib import Path

import pytest

from pipelines.cli import status as module
from pipelines.config.run import load
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import StageState


@pytest.mark.parametrize("state", ["made by other code (changed: ctr_kd.models.dcn)", "missing"])
def test_a_stage_of_other_code_comes_with_what_a_run_does_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(module.Runner, "states", lambda self: [StageState("ingest", "0123456789abcdef", state)])
    (tmp_path / "conf.yaml").write_text("source: {reader: simulated}\nsplit: {train: 2d, validation: 1d, test: 1d}\n")
    context = RunContext(load(tmp_path / "conf.yaml"), tmp_path / "workspace", read_only=True)
    said = module.status(context, f"sqlite:///{tmp_path}/mlflow.db")
    assert state in said
    assert ("makes the stages of other code again; the earlier artifacts are kept" in said) == state.startswith("made by other code")
