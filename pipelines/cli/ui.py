"""MLflow's page, on loopback."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from pipelines.cli.options import Options, common
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.tracking.client import ARTIFACTS, DATABASE, connect, tracking_uri, without_password

HOST = "127.0.0.1"


@click.command("ui")
@common
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui_command(options: Options) -> None:
    """Show runs and models: starts MLflow's page on 127.0.0.1, until Ctrl-C.

    Prints the address at which the runs of this configuration are. Where tracking.uri names a server, that server has the page.

    \b
    Example:
      ctr-kd ui conf/simulated.yaml
    """
    config, port = options.config(), options.more["port"]
    uri = tracking_uri(config, options.workspace)
    if uri.startswith("http"):
        click.echo(page_of_runs(config, uri, uri))
        return
    if config.tracking.uri is None and not (options.workspace / DATABASE).is_file():
        raise ConfigError(f"{options.workspace}: nothing was tracked yet; `ctr-kd run` does so")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ConfigError(f"port {port} of {HOST} is taken; --port names another") from None
    click.echo(page_of_runs(config, uri, f"http://{HOST}:{port}"))
    sys.stdout.flush()
    become_mlflow(uri, port, options.workspace)


def page_of_runs(config: RunConfig, uri: str, server: str) -> str:
    """Address of the runs of a configuration; of the server where it has none yet.

    MLflow remembers in the browser what kind of work it is for, and begins with traces, of which there are none here.
    """
    found = connect(uri).get_experiment_by_name(config.tracking.experiment or config.name)
    server = without_password(server).rstrip("/")
    return server if found is None else f"{server}/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"


def become_mlflow(uri: str, port: int, workspace: Path) -> None:
    """Let MLflow's server take this process; it is told by its environment where the runs are, for a command line can be read by all."""
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_REGISTRY_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": (workspace.absolute() / ARTIFACTS).as_uri(),
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execve(sys.executable, command, environment)  # noqa: S606 (our own interpreter, no word of it from outside)
