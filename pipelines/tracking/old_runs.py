"""Runs of MLflow that show artifacts which are gone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from pipelines.tracking.client import connect, sqlite_file, unreachable

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

_PAGE = 500
_PARENT = "mlflow.parentRunId"


def remove_runs(uri: str, experiment: str, is_gone: Callable[[str], bool]) -> int:
    """Remove the runs of stages whose artifacts are gone, and those of pipelines of which no stage is left; returns how many.

    A run whose files a registered version holds stays. From a database in a file they are removed for good, with their files; on a server
    they are marked as deleted, and ``mlflow gc`` there frees their room.

    Parameters
    ----------
    uri : str
        Tracking server.
    experiment : str
        Name.
    is_gone : callable
        Whether the artifact of a fingerprint is gone.

    Raises
    ------
    TrackingError
        When the server does not answer.
    """
    client = connect(uri)
    try:
        known = client.get_experiment_by_name(experiment)
        if known is None:
            return 0
        runs = list(_runs(client, known.experiment_id))
        registered = {version.run_id for version in _versions(client)}
        gone = {
            run.info.run_id
            for run in runs
            if is_gone(run.data.tags.get("fingerprint", "")) and run.info.run_id not in registered and run.info.status != "RUNNING"
        }
        left = {run.data.tags.get(_PARENT) for run in runs if run.info.run_id not in gone}
        gone |= {run.data.tags[_PARENT] for run in runs if run.info.run_id in gone and _PARENT in run.data.tags} - left
        marked = {run.info.run_id for run in runs if run.info.lifecycle_stage == "deleted"}  # by a removal that was killed
        for run in sorted(gone - marked):
            client.delete_run(run)
        if sqlite_file(uri) is None:
            return len(gone - marked)
        _erase(uri, sorted(gone))
    except Exception as error:  # of MLflow, its database or the network
        raise unreachable(uri, error) from error
    return len(gone)


def _erase(uri: str, runs: Sequence[str]) -> None:
    """Free the room of runs that are marked as deleted, by MLflow's own command."""
    from mlflow.cli import cli

    for first in range(0, len(runs), _PAGE):
        some = ",".join(runs[first : first + _PAGE])
        with redirect_stdout(io.StringIO()):  # a line for each of them
            cli.main(["gc", "--backend-store-uri", uri, "--tracking-uri", uri, "--run-ids", some], standalone_mode=False)


def _runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    from mlflow.entities import ViewType

    return _paged(lambda token: client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token))


def _versions(client: MlflowClient) -> Iterator[ModelVersion]:
    return _paged(lambda token: client.search_model_versions(max_results=_PAGE, page_token=token))


def _paged(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
