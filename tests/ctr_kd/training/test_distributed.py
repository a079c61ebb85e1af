"""Two processes on one machine against one: the same losses, the same weights, and the same end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctr_kd.data.samples import Assembly
from ctr_kd.training.distributed import ALONE
from tests.ctr_kd.training.train_process import train
from tests.programs import run_together

RUNS: dict[str, dict[str, Any]] = {
    "undivided": {},
    "in parts": {"accumulate": 3},
    "with dropout": {"accumulate": 4, "dropout": 0.2},
    "averaged": {"average": 0.3},
}


def losses(folder: Path) -> np.ndarray:
    return np.array([[p["train_loss"], p["masked_item_loss"]] for p in json.loads((folder / "result.json").read_text())["points"]])


@pytest.fixture(scope="module")
def trained(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run in this process alone (``one``) and in two processes (``two``)."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.set_num_threads(1)
    for name, settings in RUNS.items():
        train(Assembly(directory, 5), folder / "one" / name, settings, ALONE)
    ended = run_together(2, str(directory), str(folder / "two"), json.dumps(RUNS), module="tests.ctr_kd.training.train_process")
    assert [one.code for one in ended] == [0, 0], ended
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_give_the_losses_of_one(name: str, trained: Path) -> None:
    """Also where masked positions differ in number between the processes, a batch has fewer rows, and dropout is on."""
    np.testing.assert_allclose(losses(trained / "two" / name), losses(trained / "one" / name), rtol=1e-5)


def test_parts_give_the_losses_of_the_undivided_batch(trained: Path) -> None:
    np.testing.assert_allclose(losses(trained / "one" / "in parts"), losses(trained / "one" / "undivided"), rtol=1e-5)


def test_more_parts_than_rows_are_no_error(directory: Path, tmp_path: Path, trained: Path) -> None:
    train(Assembly(directory, 5), tmp_path, {"accumulate": 40}, ALONE)
    np.testing.assert_allclose(losses(tmp_path), losses(trained / "one" / "undivided"), rtol=1e-5)


def test_one_process_tells_itself_and_adds_nothing() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    loss = torch.tensor(1.0)
    assert ALONE.tell([1, 2]) == [1, 2] and ALONE.leads
    assert ALONE.add_gradients([weight], loss) is loss and weight.grad is None
    assert ALONE.fail({"code": 1}) == {"code": 1}
