"""A program's own students: by what name they are found, what is refused, and that asking for them is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

import ctr_kd
import ctr_kd.models
from ctr_kd.config import DistillConfig
from ctr_kd.config_students import StudentConfig, StudentSettings
from ctr_kd.models.students import register_student, student_class
from feature_store import plugins
from feature_store.plugins import PluginError


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})


def test_a_registered_student_is_a_kind_with_settings_of_its_own() -> None:
    @ctr_kd.register_student("mine")
    class Mine(nn.Module):
        class Settings(StudentSettings):
            depth: int = 3

        def forward(self, *batch): ...

    settings = DistillConfig.model_validate({"student": {"kind": "mine", "width": 5}}).student
    assert isinstance(settings, Mine.Settings) and (settings.width, settings.depth) == (5, 3)
    assert DistillConfig(student=settings).model_dump()["student"] == {"kind": "mine", "width": 5, "depth": 3}
    assert student_class("mine") is Mine
    assert isinstance(DistillConfig().student, StudentConfig)


def test_without_settings_it_has_those_of_every_student() -> None:
    @register_student("mine")
    class Mine(nn.Module):
        def forward(self, *batch): ...

    assert DistillConfig.model_validate({"student": {"kind": "mine"}}).student == StudentSettings(kind="mine")


def test_what_is_no_student_is_refused() -> None:
    with pytest.raises(PluginError, match="'pooled' is one of our own: choose another name"):
        register_student("pooled")
    for other in (3, len, object):
        with pytest.raises(PluginError, match=r"the student 'mine' is no class on top of torch.nn.Module"):
            register_student("mine")(other)

    @register_student("mine")
    class Mine(nn.Module):
        class Settings: ...

        def forward(self, *batch): ...

    with pytest.raises(ValueError, match=r"the student 'mine' has settings that are no class on top of ctr_kd.models.StudentSettings"):
        DistillConfig.model_validate({"student": {"kind": "mine"}})


def test_a_class_from_an_entry_point_is_looked_at_as_well() -> None:
    plugins.register_plugin("ctr_kd.students", "mine")(type("Mine", (), {"forward": len}))
    with pytest.raises(PluginError, match=r"no class on top of torch.nn.Module"):
        student_class("mine")


def test_the_public_names_are_there_and_the_package_itself_loads_no_torch() -> None:
    assert all(hasattr(ctr_kd.models, name) for name in ctr_kd.models.__all__)
    program = "import sys, ctr_kd\nassert 'torch' not in sys.modules\nctr_kd.register_student\nassert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'register_students'"):
        ctr_kd.register_students  # noqa: B018
