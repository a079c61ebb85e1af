"""Settings of a student of another package: checked by its own class, printed with their descriptions, part of the fingerprint."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feature_store import plugins
from pipelines.config.run import describe, load
from pipelines.errors import ConfigError
from pipelines.experiments.sweep import grid
from tests.feature_store.plugin_packages import install

SOURCE = """
from pydantic import BaseModel, Field, model_validator
from ctr_kd.config_students import StudentSettings
from feature_store.config_types import Config

class Inner(Config):
    rate: float = Field(0.5, description="how much of it")

class Mine:
    class Settings(StudentSettings):
        depth: int = Field(2, ge=1, description="how deep it is")
        hidden: int = 8
        inner: Inner = Inner()

        @model_validator(mode="after")
        def _fits(self):
            if self.depth > self.width:
                raise ValueError("depth is more than the width")
            return self

    def forward(self): ...
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs the student ``mine``, and one that cannot be imported."""
    monkeypatch.setattr(plugins, "_registered", {})
    install(tmp_path / "site", "of_settings", SOURCE, {"ctr_kd.students": "mine = of_settings:Mine"})
    install(tmp_path / "site", "of_ruins", "import no_such_thing", {"ctr_kd.students": "ruins = of_ruins:Mine"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    sys.modules.pop("of_settings", None)


YamlFile = Callable[..., Path]


def test_they_are_read_printed_and_read_again(yaml_file: YamlFile, tmp_path: Path) -> None:
    config = load(yaml_file("distill: {student: {kind: mine, depth: 3}}"), ["distill.student.inner.rate=0.25"])
    printed = describe(config)
    assert "    # how deep it is\n    depth: 3\n" in printed and "      # how much of it\n      rate: 0.25\n" in printed
    (tmp_path / "printed.yaml").write_text(printed, encoding="utf-8")
    assert load(tmp_path / "printed.yaml") == config
    student = config.section(["distill.student"])["distill.student"]
    assert student == {"kind": "mine", "width": 32, "depth": 3, "hidden": 8, "inner": {"rate": 0.25}}


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("{kind: mine, depht: 3}", "demo.yaml:3: distill.student.depht: unknown key; did you mean 'depth'?"),
        ("{kind: mine, zz: 1}", "distill.student.zz: unknown key; valid here: kind, width, depth, hidden, inner"),
        ("{kind: mine, depth: 0}", "demo.yaml:3: distill.student.depth: should be greater than or equal to 1, not 0"),
        ("{kind: mine, depth: 40}", "demo.yaml:3: distill.student: depth is more than the width"),
        ("{kind: mine, inner: {rite: 1}}", "distill.student.inner.rite: unknown key; did you mean 'rate'?"),
        ("{kind: mine, inner: 1}", "distill.student.inner: should be a block of keys (rate), not int"),
        ("{kind: pooled, depth: 3}", "distill.student.depth: unknown key; did you mean 'width'?"),
        (
            "{kind: nine, depth: 3}",
            "demo.yaml:3: distill.student.kind: there is no student 'nine'; there are pooled, bilstm, bilstm_pair, din,",
        ),
        ("{kind: nine}", "dcn; installed plug-ins: mine, ruins"),
        (
            "{kind: ruins}",
            "distill.student.kind: the student 'ruins' (of_ruins:Mine of of_ruins 1.0) cannot be imported: ModuleNotFoundError",
        ),
        ("{kind: 3}", "distill.student.kind: should be a valid string, not 3"),
        ("mine", "distill.student: should be a block of keys (kind, width, hidden, dropout, combiner, recency), not str"),
    ],
)
def test_what_is_wrong_is_one_line(yaml_file: YamlFile, student: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(yaml_file(f"distill: {{student: {student}}}"))
    assert said in str(error.value) and len(error.value.problems) == 1


def test_the_traceback_of_a_broken_module_is_kept(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError) as error:
        load(yaml_file("distill: {student: {kind: ruins}}"))
    assert "of_ruins.py" in "".join(traceback.format_exception(error.value))


def test_a_sweep_takes_along_what_both_kinds_have(yaml_file: YamlFile) -> None:
    text = "distill: {student: {kind: mine, depth: 3, hidden: 16}}\nsweep: {kinds: [mine, dcn], widths: [2, 4]}"
    students, impossible = grid(load(yaml_file(text)))
    found = {name: config.distill.student.model_dump() for name, config in students.items()}
    assert found["mine 4"] == {"kind": "mine", "width": 4, "depth": 3, "hidden": 16, "inner": {"rate": 0.5}}
    assert found["dcn 2"] == {"kind": "dcn", "width": 2, "hidden": 16, "dropout": 0.1, "combiner": "mean", "recency": True}
    assert impossible == {"mine 2": "depth is more than the width"}
    with pytest.raises(ConfigError, match=r"sweep.kinds.0: there is no student 'nine'"):
        load(yaml_file("sweep: {kinds: [nine]}"))


def test_hints_want_a_vector_of_a_history(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match="hints need a student that sums up a history by itself; mine reads it anew for each candidate"):
        load(yaml_file("distill: {student: {kind: mine}, hints: {hidden: 1}}"))
