"""What ``make`` would run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of the make that runs the tests
    environment |= {} if path is None else {"PATH": path}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_log_has_a_workspace_of_its_own() -> None:
    def command(*arguments: str) -> str:
        done = make("--dry-run", "run", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1].split("ctr-kd ")[1]

    assert command() == "run conf/simulated.yaml --workspace workspace"
    assert command("CONF=conf/globo.yaml", "DATA=clicks") == "run conf/globo.yaml --workspace work/globo --data clicks"
    assert command("CONF=conf/globo.yaml", "WORKSPACE=mine") == "run conf/globo.yaml --workspace mine"


def pythons(folder: Path, working: set[str]) -> str:
    """A PATH on which only these versions run; the others are there, and fail as pyenv's do that nobody installed."""
    for version in ("3.11", "3.12", "3.13"):
        program = folder / f"python{version}"
        program.write_text(f"#!/bin/sh\nexit {0 if version in working else 127}\n", encoding="utf-8")
        program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_tests_run_on_every_python_that_runs_here(tmp_path: Path) -> None:
    done = make("test-pythons", "MAKE=echo asked to make", path=pythons(tmp_path, {"3.11", "3.13"}))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("asked")] == [
        f"asked to make test VENV=.venv-{version} PYTHON=env PYENV_VERSION={version} python{version}" for version in ("3.11", "3.13")
    ]
    assert done.stdout.splitlines()[-1] == "passed: 3.11 3.13; failed: none; not installed here: 3.12"


def test_a_python_that_fails_or_none_at_all_fails_the_whole(tmp_path: Path) -> None:
    done = make("test-pythons", "MAKE=false", path=pythons(tmp_path, {"3.12"}))
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "passed: none; failed: 3.12; not installed here: 3.11 3.13"
    done = make("test-pythons", "MAKE=true", path=pythons(tmp_path, set()))
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "passed: none; failed: none; not installed here: 3.11 3.12 3.13"


def test_an_environment_of_another_name_is_used_throughout() -> None:
    done = make("--dry-run", "test", "VENV=.venv-other", "PYTHON=python3.99")
    assert "python3.99 -m venv .venv-other" in done.stdout
    assert ".venv/" not in done.stdout and ".venv-other/bin/python -m pytest" in done.stdout
