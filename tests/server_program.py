"""``mlflow ARGUMENTS...``, whose tracking server answers in this process, not in one that it starts: ``python -m tests.server_program``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mlflow.server
import uvicorn
from mlflow.cli import cli

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # jobs are run by other programs


def answer_here(command: list[str], extra_env: dict[str, str], **options: Any) -> None:
    """In place of starting ``python -m uvicorn ARGUMENTS...``."""
    os.environ.update(extra_env)
    uvicorn.main(command[3:])


if __name__ == "__main__":
    os.setsid()  # what it starts is ended with it
    os.environ.update(QUIET)
    # The programs that `mlflow` starts are looked up: those of this environment come first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mlflow.server._exec_cmd = answer_here
    cli()
