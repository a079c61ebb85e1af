"""The page about plug-ins: its student is installed as it says and trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from ctr_kd.config import DistillConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.models.students import student_class
from ctr_kd.training.distill import train_student
from ctr_kd.training.student_checks import check_export, check_student, rows_to_check
from pipelines.config.run import RunConfig, describe
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import raw_frame, write_assembly
from tests.docs.conftest import PLUGINS_PAGE, shown


def test_the_student_of_the_page_passes_the_checks_and_learns(own_student: None, tmp_path: Path) -> None:
    distill = DistillConfig(
        **yaml.safe_load(shown("yaml"))["distill"], training=TrainingConfig(epochs=3, batch_size=64, learning_rate=0.01)
    )
    folder = write_assembly(tmp_path / "assembly")
    assembly = Assembly(folder, 5)
    samples, signature = assembly.samples("test"), assembly.signature()
    raw = raw_frame(folder, "test").take(pa.array(rows_to_check(samples)))
    model = student_class(distill.student.kind)(signature, distill.student)
    check_export(check_student(model, signature, samples), signature, assembly, samples, raw)
    trained, curve = train_student(rows_of(assembly), distill, job_at(tmp_path, 0))
    assert np.isfinite(curve.kept_figure[1])
    assert type(trained).__name__ == "Recurrent" and trained.gru.num_layers == 2


def test_its_settings_are_printed(own_student: None) -> None:
    minimal = {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}}
    printed = describe(RunConfig.model_validate(minimal | yaml.safe_load(shown("yaml"))))
    assert "    # layers of the GRU\n    layers: 2\n" in printed


def test_the_page_is_short() -> None:
    assert (
        PLUGINS_PAGE.index("## A reader") < PLUGINS_PAGE.index("## A loss")
        and len(PLUGINS_PAGE.splitlines()) <= 66
        and len(shown("python").splitlines()) <= 30
    )
