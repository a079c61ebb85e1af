"""``ctr-kd ui``: MLflow's page on loopback, at the runs of a configuration."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import main as cli
from pipelines.tracking.client import connect

Ui = Callable[..., tuple[int, str, str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What took the place of the process."""
    found: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: found.append((command, environment)))
    return found


@pytest.fixture
def ui(workspace: Path, yaml_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ui:
    monkeypatch.setattr("signal.signal", lambda *arguments: None)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["ui", str(yaml_file()), "--workspace", str(workspace), *arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out.strip(), err.strip()

    return command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_page_is_on_loopback_and_its_address_leads_to_the_runs(ui: Ui, workspace: Path, started: list) -> None:
    port = free_port()
    assert ui("--port", str(port)) == (0, f"http://127.0.0.1:{port}", "")
    number = connect(f"sqlite:///{workspace / 'mlflow.db'}").create_experiment("demo")
    assert ui("--port", str(port))[1] == f"http://127.0.0.1:{port}/#/experiments/{number}/runs?workflowType=machine_learning"
    command, environment = started[-1]
    assert command[2:6] == ["mlflow", "server", "--host", "127.0.0.1"] and str(port) in command
    assert environment["MLFLOW_BACKEND_STORE_URI"] == environment["MLFLOW_REGISTRY_STORE_URI"] == f"sqlite:///{workspace / 'mlflow.db'}"


def test_what_keeps_it_from_starting_is_one_line(ui: Ui, workspace: Path, started: list) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, _, err = ui("--port", str(other.getsockname()[1]))
    assert code == 2 and "is taken; --port names another" in err
    (workspace / "mlflow.db").unlink()
    code, _, err = ui()
    assert code == 2 and "nothing was tracked yet; `ctr-kd run` does so" in err
    assert started == [] and not (workspace / "mlflow.db").exists()
