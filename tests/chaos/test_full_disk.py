"""A disk that fills at a random place of every stage: one line, and the next run ends as if there had been room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.tiny_workspace import Workspace
from tests.pipelines.workspace.test_faults import STAGES, before, disk, used, whole  # noqa: F401  fixtures

pytestmark = pytest.mark.chaos
SIZES = 3


@pytest.mark.parametrize("draw", range(SIZES))
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_anywhere_loses_nothing(
    whole: Workspace,  # noqa: F811
    stage: str,
    draw: int,
    disk: Callable[[int], Path],  # noqa: F811
    chance: np.random.Generator,
) -> None:
    workspace = before(whole, stage, disk(1 << 30) / "workspace")
    free = int(10 ** chance.uniform(3.6, 6.5))
    disk(used(workspace.path) + free)
    ended = workspace.start("run")
    assert ended.code in {0, 1}, ended.err
    if ended.code == 1:
        last = ended.err.splitlines()[-1]
        assert "space" in last or "disk is full" in last or "disk I/O" in last, f"{free} bytes free: {ended.err}"
    assert "Traceback" not in ended.err
    disk(1 << 30)
    workspace.run("run")
    assert workspace.tables() == whole.tables()
    figures, expected = workspace.metrics(), whole.metrics()
    assert figures.pop("gate")["passed"] and expected.pop("gate")["passed"]  # the registry that was copied has a champion before it
    assert figures == expected
