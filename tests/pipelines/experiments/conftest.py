"""Trials in processes that need not load torch, and that measure speed for a moment only."""

from __future__ import annotations

import pytest

from pipelines.experiments.tuning import workers
from tests.pipelines.experiments.tuning.processes import work_quickly
from tests.programs import FORKS


@pytest.fixture
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SPAWN", FORKS)
    monkeypatch.setattr(workers, "work", work_quickly)
