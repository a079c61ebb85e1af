"""What the tests of trainings share: a job by the file of its checkpoint, and the rows of a tiny assembly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctr_kd.data.texts import AnyAssembly
from ctr_kd.training.job import TrainingJob, TrainingRows


def job_at(checkpoint: Path, seed: int = 0, **named: Any) -> TrainingJob:
    """A job whose checkpoint is NAME.pt in some folder."""
    return TrainingJob(**{"seed": seed, "fingerprint": "i", "folder": checkpoint.parent, "name": checkpoint.stem, **named})


def rows_of(assembly: AnyAssembly) -> TrainingRows:
    """Training and validation rows of an assembly, read anew."""
    return TrainingRows(signature=assembly.signature(), train=assembly.samples("train"), validation=assembly.samples("validation"))


class Killed(BaseException):
    """Ends a training as nothing that it expects would."""


def killed_at(step: int | None) -> Callable[[str], None]:
    """A job's report that ends the training when it says that a step was validated; of None never."""

    def report(text: str) -> None:
        if step is not None and text.startswith(f"step {step} "):
            raise Killed

    return report
