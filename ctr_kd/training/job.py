"""What every training is given beside its configuration: its place in a run, and the rows that it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctr_kd.data.samples import Samples, Signature
from ctr_kd.training.distributed import ALONE, Processes


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training of a run, whatever it trains: its seed, its checkpoint, and who is told of its progress.

    Attributes
    ----------
    seed : int
    fingerprint : str
        Of everything that shapes the training; a checkpoint with another one is refused.
    folder : Path
        Of its checkpoints.
    name : str
        Of its own checkpoint in that folder.
    report : callable
        Takes one line per validation, and each warning.
    measured : callable
        Takes the share of the steps that are done and what validation measured then; what it raises ends the training.
    processes : Processes
        Those that share the work; all of them train with equal arguments.
    """

    seed: int
    fingerprint: str
    folder: Path
    name: str = "training"
    report: Callable[[str], None] = lambda text: None
    measured: Callable[[float, Mapping[str, float]], None] = lambda share, figures: None
    processes: Processes = ALONE

    @property
    def checkpoint(self) -> Path:
        """File of the last checkpoint; every process reads it, the first one writes it."""
        return self.folder / f"{self.name}.pt"


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Rows that a model learns from, and those that choose its checkpoint.

    Attributes
    ----------
    signature : Signature
        Names and sizes of the inputs of both.
    train, validation : Samples
    """

    signature: Signature
    train: Samples
    validation: Samples
