"""A busy machine, and chance that comes back: `make test-chaos PYTEST_ADDOPTS=--randomly-seed=N` repeats what was drawn."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from tests.pipelines.conftest import (  # noqa: F401  fixtures
    _speed_is_measured_for_a_moment,
    made_once,
    make_export,
    mlflow_database,
    served,
    served_template,
    whole_pipeline,
)

BUSY = int(os.environ.get("CTR_KD_BUSY", "4"))  # processes beside the tests that leave no processor idle


@pytest.fixture(scope="session", autouse=True)
def _busy_machine() -> Iterator[None]:
    spin = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
    processes = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(BUSY)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def worker_id() -> str:
    """As pytest-xdist has it; these tests share the machine with nothing but their own noise."""
    return "master"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the seed that the head of the output names."""
    return np.random.default_rng([request.config.getoption("randomly_seed"), zlib.crc32(request.node.name.encode())])
