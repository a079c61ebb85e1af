"""One process of a small pretraining, alone or under ``torchrun``; see test_distributed.py and test_resume.py.

    python -m tests.ctr_kd.train_process ASSEMBLY FOLDER '{"accumulate": 2, "dropout": 0.1, "kill": [1, 17]}'

Leaves ``result.json`` and ``weights.pt`` in the folder, which also holds the checkpoint; ``kill`` names a process and a step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from ctr_kd import pretraining
from ctr_kd.config import EncoderConfig, PretrainConfig, TrainingConfig
from ctr_kd.distributed import Processes, join
from ctr_kd.samples import Assembly


def train(assembly: Assembly, folder: Path, settings: dict[str, Any], processes: Processes) -> None:
    """Pretrain with both objectives, and a validation after every second step, so that the curve shows where losses part."""
    training = TrainingConfig(
        epochs=8,
        batch_size=17,
        learning_rate=5e-3,
        validations=settings.get("validations", 8),
        unknown_rate=0.1,
        checkpoint_seconds=0.02,
        accumulate=settings.get("accumulate", 1),
    )
    encoder = EncoderConfig(width=16, heads=2, layers=1, dropout=settings.get("dropout", 0.0))
    config = PretrainConfig(encoder=encoder, training=training, next_segment=0.3, validation_share=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    model, curve, facts = pretraining.pretrain(
        assembly, assembly.signature(), config, None, 0, "identity", folder / "c.pt", processes=processes
    )
    if processes.leads:
        torch.save(model.state_dict(), folder / "weights.pt")
        (folder / "result.json").write_text(json.dumps({"points": curve.points, "facts": facts}))


def die_at(step: int) -> None:
    """Let this process be killed, as by the system, in the middle of a step."""
    draw, calls = pretraining.mask_items, iter(range(step + 1))

    def dying(tokens: Any, *rest: Any, **more: Any) -> Any:
        if not more and next(calls) == step:  # validation masks as well, and names what it passes
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(tokens, *rest, **more)

    pretraining.mask_items = dying  # type: ignore[assignment]


def main() -> None:
    torch.set_num_threads(1)
    assembly, folder, runs = Assembly(Path(sys.argv[1]), 5), Path(sys.argv[2]), json.loads(sys.argv[3])
    with join() as processes:
        for name, settings in runs.items():
            if settings.get("kill", [None])[0] == processes.rank:
                die_at(settings["kill"][1])
            train(assembly, folder / name, settings, processes)


if __name__ == "__main__":
    main()
