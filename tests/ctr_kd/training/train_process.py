"""One process of a small pretraining, alone or under ``torchrun``; see test_distributed.py and test_resume.py.

    python -m tests.ctr_kd.training.train_process ASSEMBLY FOLDER '{"accumulate": 2, "dropout": 0.1, "kill": [1, 17]}'

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
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.training.distributed import Processes, join_processes
from ctr_kd.training.pretrain import pretrain
from tests.ctr_kd.trainings import job_at


def train(assembly: Assembly, folder: Path, settings: dict[str, Any], processes: Processes) -> None:
    """Pretrain with all objectives, and a validation after every second step, so that the curve shows where losses part."""
    training = TrainingConfig(
        epochs=8,
        batch_size=17,
        learning_rate=5e-3,
        validations=settings.get("validations", 8),
        unknown_rate=0.1,
        checkpoint_seconds=0.02,
        accumulate=settings.get("accumulate", 1),
        average=settings.get("average", 0.0),
    )
    encoder = EncoderConfig(width=16, heads=2, layers=1, dropout=settings.get("dropout", 0.0))
    config = PretrainConfig(encoder=encoder, training=training, next_segment=0.3, attributes=0.3, leave_out=0.2, validation_share=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    model, curve, facts = pretrain(assembly, config, job_at(folder / "c.pt", processes=processes))
    if processes.leads:
        torch.save(model.state_dict(), folder / "weights.pt")
        (folder / "result.json").write_text(json.dumps({"points": curve.points, "facts": facts}))


def die_at(step: int) -> None:
    """Let this process be killed, as by the system, in the middle of a step: its gradients are there, its weights as before."""
    steps = iter(range(step + 1))

    def hook(optimizer: Any, arguments: Any, more: Any) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_pre_hook(hook)


def exchange(processes: Processes) -> None:
    """What two processes tell each other: words, and gradients that some or all of them lack."""
    both, first_only, nowhere, sparse = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(4))
    both.grad = torch.full((2, 2), processes.rank + 1.0)
    if processes.leads:
        first_only.grad = torch.ones(2, 2)
        sparse.grad = torch.sparse_coo_tensor([[1]], [[5.0, 6.0]], (2, 2))
    loss = processes.add_gradients([both, first_only, nowhere, sparse], torch.tensor(0.25))
    assert loss == 0.5 and nowhere.grad is None
    assert both.grad.unique().item() == 3 and first_only.grad is not None and first_only.grad.unique().item() == 1
    assert sparse.grad is not None and sparse.grad.is_sparse and sparse.grad.to_dense().tolist() == [[0, 0], [5, 6]]
    assert processes.tell({"score": 0.1} if processes.leads else None) == {"score": 0.1}
    assert processes.tell() is None


def main() -> None:
    torch.set_num_threads(1)
    assembly, folder, runs = Assembly(Path(sys.argv[1]), 5), Path(sys.argv[2]), json.loads(sys.argv[3])
    with join_processes() as processes:
        if processes.count == 2:
            exchange(processes)
        for name, settings in runs.items():
            if settings.get("kill", [None])[0] == processes.rank:
                die_at(settings["kill"][1])
            train(assembly, folder / name, settings, processes)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), f"threads of the group outlive it, and may abort the process as it ends: {threads}"


if __name__ == "__main__":
    main()
