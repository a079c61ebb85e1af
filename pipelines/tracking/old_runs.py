"""Runs in a workspace's own MLflow database that show artifacts which are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.tracking.client import connect, unreachable

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_PAGE = 500
_PARENT = "mlflow.parentRunId"


def remove_runs(uri: str, fingerprints: Collection[str]) -> int:
    """Remove for good, with their files, the runs of stages whose artifacts are gone, and those of pipelines of which no stage is left.

    A run whose files a registered version holds stays. MLflow's own command for this (``mlflow gc``) is not asked: besides the runs that
    are named to it, it removes whatever else anybody has put into the trash.

    Parameters
    ----------
    uri : str
        A SQLite database that no other workspace writes to.
    fingerprints : collection of str
        Of the artifacts that are gone.

    Returns
    -------
    int
        Runs that were removed.

    Raises
    ------
    TrackingError
        When the database does not answer.
    """
    client = connect(uri)
    try:
        runs = list(_all_runs(client))
        registered = {version.run_id for version in _paged(lambda token: client.search_model_versions(max_results=_PAGE, page_token=token))}
        gone = {run.info.run_id for run in runs if run.data.tags.get("fingerprint") in fingerprints and run.info.run_id not in registered}
        left = {run.data.tags.get(_PARENT) for run in runs if run.info.run_id not in gone}
        gone |= {run.data.tags[_PARENT] for run in runs if run.info.run_id in gone and _PARENT in run.data.tags} - left
        wanted = [run for run in runs if run.info.run_id in gone]
        for run in wanted:
            _erase(client, run)
    except Exception as error:  # of MLflow or its database
        raise unreachable(uri, error) from error
    return len(wanted)


def _erase(client: MlflowClient, run: Run) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if run.info.lifecycle_stage != "deleted":  # a removal that was killed may have marked it
        client.delete_run(run.info.run_id)
    get_artifact_repository(run.info.artifact_uri).delete_artifacts()
    client._tracking_client.store._hard_delete_run(run.info.run_id)  # as `mlflow gc` does it


def _all_runs(client: MlflowClient) -> Iterator[Run]:
    from mlflow.entities import ViewType

    experiments = [one.experiment_id for one in _paged(lambda token: client.search_experiments(max_results=_PAGE, page_token=token))]
    return _paged(lambda token: client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token))


def _paged(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
