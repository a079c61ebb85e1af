"""A training that is killed for real, in the middle of an epoch, ends as if it had not been: bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.programs import run_together


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_training_equals_the_uninterrupted_one(processes: int, directory: Path, tmp_path: Path) -> None:
    def run(runs: dict[str, dict[str, Any]]) -> int:
        arguments = (str(directory), str(tmp_path), json.dumps(runs))
        ended = run_together(processes, *arguments, module="tests.ctr_kd.training.train_process")
        return max(abs(one.code) for one in ended)

    settings = {"accumulate": 3, "dropout": 0.2, "average": 0.3}
    step = int(np.random.default_rng().integers(4, 15))  # of 16; any will do
    assert run({"killed": {**settings, "kill": [processes - 1, step]}}) != 0
    assert (tmp_path / "killed" / "c.pt").exists() and not (tmp_path / "killed" / "result.json").exists()
    assert run({"killed": settings, "whole": settings}) == 0
    killed, whole = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("killed", "whole"))
    assert killed == whole, f"killed at step {step}"
    weights = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("killed", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), f"killed at step {step}"
