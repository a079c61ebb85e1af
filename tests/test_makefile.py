"""What ``make`` would run."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.programs import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_log_has_a_workspace_of_its_own() -> None:
    def command(*arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of the make that runs the tests
        done = subprocess.run(
            ["make", "--dry-run", "run", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip().splitlines()[-1].split("ctr-kd ")[1]

    assert command() == "run conf/simulated.yaml --workspace workspace"
    assert command("CONF=conf/globo.yaml", "DATA=clicks") == "run conf/globo.yaml --workspace work/globo --data clicks"
    assert command("CONF=conf/globo.yaml", "WORKSPACE=mine") == "run conf/globo.yaml --workspace mine"
