"""What the tests of trainings share: a job by the file of its checkpoint, and the rows of a tiny assembly."""

from __future__ import annotations

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
