"""What a workspace knows of a student of another package: its source, in fingerprints and between two warm nights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from feature_store import plugins
from pipelines.config.run import RunConfig
from pipelines.training import student_plugin
from pipelines.training.parents import STAGES, _differences
from pipelines.training.student_plugin import student_digest, student_source
from pipelines.workspace.manifest import StageInput


class Mine:
    def forward(self) -> None: ...


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(plugins, "_registered", {("ctr_kd.students", "mine"): Mine})
    values = {"name": "demo", "source": {"reader": "simulated"}, "split": {"train": "2d", "validation": "1d", "test": "1d"}}
    return RunConfig.model_validate({**values, "distill": {"student": {"kind": "mine"}}})


def test_ours_are_known_by_the_source_of_this_project(config: RunConfig) -> None:
    assert student_digest(config) == {}


def test_a_warm_night_continues_no_student_of_another_source(mine: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {name: StageInput(digest=digest) for name, digest in student_digest(mine).items()}
    assert list(digests) == ["student mine"]
    said = mine.model_dump(mode="json", by_alias=True, exclude={"teacher_only"})
    manifest = SimpleNamespace(config=said, inputs={"trees": StageInput(digest="a"), **digests})
    manifest.config["distill.student"] = manifest.config["distill"]["student"]
    manifests = dict.fromkeys(STAGES, manifest)
    assert list(_differences(mine, manifests)) == []
    monkeypatch.setattr(student_plugin, "plugin_digest", lambda *name: "another")
    assert list(_differences(mine, manifests)) == ["has another student (its plug-in was changed)"]


def test_a_term_of_the_loss_is_known_by_its_source(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {("ctr_kd.objectives", "mine"): student_digest})
    own = config.model_copy(update={"distill": config.distill.model_copy(update={"soft": "mine"})})
    assert student_source(SimpleNamespace(config=config)) == {}
    assert list(student_source(SimpleNamespace(config=own))) == ["objective mine"]
