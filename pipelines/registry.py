"""The MLflow model registry: saving the student as a pyfunc, its versions, and the aliases champion and challenger."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.artifacts import ArtifactError, digest_of, read_json, sha256_of, write_json
from pipelines.tracking import TrackingError, connect, quieten_mlflow, reason_of, unreachable

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
LINEAGE, VALIDATION_SCORES = "lineage.json", "validation_scores"
SCORER_MODULE = "student_scorer"
DATA = "student"  # folder of the exported student inside the model
_HISTORY, _STUDENT = "champion_history", "student_digest"
_REPAIR = "register the student again: `ctr-kd register CONF --force`"
_REQUIREMENTS = ("numpy", "pandas", "pyarrow", "onnxruntime")


class Move(NamedTuple):
    """Which version an alias named before, and which it names now."""

    before: str | None
    after: str


class Registry:
    """Versions of one registered model.

    Parameters
    ----------
    uri : str
        MLflow registry.
    name : str
        Registered model.

    Raises
    ------
    TrackingError
        From every method, when the registry does not answer.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self.client: MlflowClient = connect(uri)

    def alias(self, alias: str) -> str | None:
        """Version that an alias names."""
        return _alias(self.client, self.uri, self.name, alias)

    def register(self, run: str, model: Path, artifact_path: str, tags: Mapping[str, str]) -> str:
        """Keep a saved model among the artifacts of an MLflow run, and register it as challenger.

        Parameters
        ----------
        run : str
            MLflow run.
        model : Path
            What :func:`save_model` wrote.
        artifact_path : str
            Where in the run's artifacts it goes.
        tags : mapping of str to str
            ``student_digest`` among them, by which :meth:`version_of` knows a student again.
        """
        try:
            self.client.log_artifacts(run, str(model), artifact_path)
            if not self.client.search_registered_models(f"name = '{self.name}'"):
                self.client.create_registered_model(self.name)
            source = f"{self.client.get_run(run).info.artifact_uri}/{artifact_path}"
            version = str(self.client.create_model_version(self.name, source, run_id=run, tags=dict(tags)).version)
        except Exception as error:  # of MLflow, its database or the network
            raise unreachable(self.uri, error) from error
        self.challenge(version)
        return version

    def challenge(self, version: str) -> None:
        """Let the alias challenger name a version."""
        try:
            self.client.set_registered_model_alias(self.name, CHALLENGER, version)
        except Exception as error:
            raise unreachable(self.uri, error) from error

    def version_of(self, student_digest: str) -> str | None:
        """Newest version that holds this student."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.search_model_versions(f"name = '{self.name}' and tags.{_STUDENT} = '{student_digest}'")
        except MlflowException as error:
            raise unreachable(self.uri, error) from error
        return str(max(int(version.version) for version in found)) if found else None

    def student_of(self, version: str) -> str | None:
        """Digest of the student that a version holds."""
        try:
            return dict(self.client.get_model_version(self.name, version).tags).get(_STUDENT)
        except Exception as error:
            raise unreachable(self.uri, error) from error

    def promote(self, version: str) -> Move:
        """Make a version champion; the one before is remembered for :meth:`rollback`."""
        try:
            before = self.alias(CHAMPION)
            history = self._history(before)
            if history[-1:] != [version]:
                # The history is written first: a run killed between the two steps repeats both.
                self._remember([*history, version])
            self.client.set_registered_model_alias(self.name, CHAMPION, version)
        except TrackingError:
            raise
        except Exception as error:
            raise unreachable(self.uri, error) from error
        return Move(before, version)

    def rollback(self) -> Move:
        """Make the previous champion champion again.

        Raises
        ------
        TrackingError
            When there was none.
        """
        before = self.alias(CHAMPION)
        if before is None:
            raise TrackingError(f"{self.name} has no champion, so there is none to go back from; run `ctr-kd promote` to make one")
        history = self._history(before)
        if len(history) < 2:
            raise TrackingError(f"{self.name} has no earlier champion to go back to")
        try:
            self.client.set_registered_model_alias(self.name, CHAMPION, history[-2])
            self._remember(history[:-1])
        except Exception as error:
            raise unreachable(self.uri, error) from error
        return Move(before, history[-2])

    def download(self, uri: str) -> Path:
        """Local directory of a model, once its digests have been checked.

        Parameters
        ----------
        uri : str
            ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` of this registry, or whatever else MLflow can download.

        Raises
        ------
        TrackingError
            When the registry does not answer, or knows no such model.
        ArtifactError
            When the model's files are lost or damaged.
        """
        from mlflow.artifacts import download_artifacts

        place, advice = uri, "check --model"
        if uri.startswith("models:/"):
            # MLflow itself would look such a name up in its default registry, and create that where there is none.
            place, advice = self._place_of(uri), _REPAIR
        try:
            path = Path(download_artifacts(artifact_uri=place, tracking_uri=self.uri))
        except Exception as error:  # of MLflow or of whatever keeps its artifacts
            raise ArtifactError(f"the files of {uri} cannot be read ({reason_of(error)}); {advice}") from error
        verify_model(path)
        return path

    def _place_of(self, uri: str) -> str:
        """Where the files of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` lie."""
        name, at, alias = uri.removeprefix("models:/").partition("@")
        try:
            if at:
                version = str(self.client.get_model_version_by_alias(name, alias).version)
            else:
                name, _, version = name.rpartition("/")
            return str(self.client.get_model_version_download_uri(name, version))
        except Exception as error:
            if _is_missing(error):
                raise TrackingError(f"MLflow at {self.uri} has no model {uri}; `ctr-kd status CONF` shows what there is") from error
            raise unreachable(self.uri, error) from error

    def _history(self, champion: str | None) -> list[str]:
        """Champions, oldest first, ending with the present one, also when somebody moved the alias by other means."""
        if champion is None:
            return []
        try:
            tags = self.client.get_registered_model(self.name).tags
        except Exception as error:
            raise unreachable(self.uri, error) from error
        history = [str(version) for version in json.loads(tags.get(_HISTORY, "[]"))]
        if champion in history:
            return history[: len(history) - history[::-1].index(champion)]
        return [*history, champion]

    def _remember(self, history: list[str]) -> None:
        self.client.set_registered_model_tag(self.name, _HISTORY, json.dumps(history[-50:]))


def peek(uri: str, name: str, alias: str) -> str | None:
    """Version that an alias names, without importing MLflow where its database can be asked directly.

    A run that has nothing to do asks this and no more, and the import alone takes seconds.
    """
    query = "select version from registered_model_aliases where name = ? and alias = ?"
    try:
        return _ask_sqlite(uri, query, (name, alias))
    except _NotAnswered:
        return _alias(connect(uri), uri, name, alias)


def has_version(uri: str, name: str, version: str) -> bool:
    """Whether the registry knows a version; asked as :func:`peek` asks."""
    query = "select version from model_versions where name = ? and version = ?"
    try:
        return _ask_sqlite(uri, query, (name, int(version))) is not None
    except _NotAnswered:
        client = connect(uri)
        found = client.search_model_versions(f"name = '{name}'")
        return any(str(one.version) == version for one in found)


class _NotAnswered(Exception):
    """The registry is no SQLite file of this MLflow's making."""


def _ask_sqlite(uri: str, query: str, values: tuple[Any, ...]) -> str | None:
    if not uri.startswith("sqlite:///"):
        raise _NotAnswered
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(query, values).fetchone()
    except sqlite3.Error:  # another MLflow has other tables
        raise _NotAnswered from None
    return str(row[0]) if row else None


def _alias(client: MlflowClient, uri: str, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if _is_missing(error):
            return None
        raise unreachable(uri, error) from error


def _is_missing(error: Exception) -> bool:
    """Whether the registry answered that it has no such model, version or alias; for some of them MLflow says "invalid"."""
    return getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


# --- the model on disk -----------------------------------------------------------------------------------------------


def save_model(export: Path, destination: Path, lineage: Mapping[str, Any], example: pd.DataFrame) -> str:
    """Save an exported student as an MLflow pyfunc that needs neither torch nor this project.

    Parameters
    ----------
    export : Path
        What ``ctr_kd.export.export_student`` wrote.
    destination : Path
        Directory to create; one that a killed run left is replaced.
    lineage : mapping
        Where the student comes from: digests of data, configuration, teacher and code revision.
    example : DataFrame
        A few rows, kept as input example.

    Returns
    -------
    str
        Digest of the student: of the names and bytes of all that was exported.
    """
    quieten_mlflow()
    from mlflow import pyfunc

    for path in (destination, destination.with_name(DATA), destination.with_name("code")):
        if path.exists():
            shutil.rmtree(path)
    data, code = destination.with_name(DATA), destination.with_name("code")
    data.mkdir(parents=True)
    code.mkdir()
    files = {}
    for path in sorted(export.iterdir()):
        if path.name != "scorer.py":
            shutil.copyfile(path, data / path.name)
            files[f"data/{DATA}/{path.name}"] = sha256_of(path)
    shutil.copyfile(export / "scorer.py", code / f"{SCORER_MODULE}.py")
    files[f"code/{SCORER_MODULE}.py"] = sha256_of(export / "scorer.py")
    student = digest_of(files)
    signature = json.loads((export / "signature.json").read_text(encoding="utf-8"))
    write_json(data / LINEAGE, {**lineage, "student": {"digest": student, "files": files}})
    pyfunc.save_model(
        destination,
        loader_module=SCORER_MODULE,
        data_path=str(data),
        code_paths=[str(code / f"{SCORER_MODULE}.py")],
        signature=model_signature(signature),
        input_example=example,
        pip_requirements=[f"{name}=={package_version(name)}" for name in (*_REQUIREMENTS, *signature.get("packages", []))],
    )
    shutil.rmtree(data)
    shutil.rmtree(code)
    return student


def model_signature(signature: Mapping[str, Any]) -> Any:
    """The columns that a caller sends, as MLflow's signature.

    Every column is declared as ``any``: MLflow's own check would turn away integers for a statistic, times with a zone, ids
    as text, and costs ten microseconds per list. The scorer checks types itself and names the column that is wrong.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    columns = signature["columns"]
    required = [ColSpec(AnyType(), name) for name in columns["required"]]
    optional = [ColSpec(AnyType(), name, required=False) for name in columns["optional"]]
    return ModelSignature(
        Schema([*required, *optional]), Schema([ColSpec(DataType[kind], name) for name, kind in columns["answer"].items()])
    )


def verify_model(path: Path) -> dict[str, Any]:
    """Check a model's files against the digests in its lineage, which is returned.

    Raises
    ------
    ArtifactError
        Naming the file that does not match.
    """
    lineage = read_json(path / "data" / DATA / LINEAGE)
    if lineage is None:
        raise ArtifactError(f"{path} holds no {LINEAGE}: it is no student that this project registered")
    for name, expected in lineage["student"]["files"].items():
        if not (path / name).is_file() or sha256_of(path / name) != expected:
            raise ArtifactError(f"{path / name} does not match its digest in {LINEAGE}; {_REPAIR}")
    return lineage


def load_scorer(path: Path, threads: int = 1) -> Any:
    """The model's own scorer, whose ``score`` takes an Arrow table.

    ``mlflow.pyfunc`` serves the same class, but passes every batch through pandas.

    Parameters
    ----------
    path : Path
        Directory of a model whose digests were checked.
    """
    return scorer_in(path / "code" / f"{SCORER_MODULE}.py", path / "data" / DATA, threads)


def scorer_in(code: Path, student: Path, threads: int = 1) -> Any:
    """The scorer whose code is a file, for an exported student."""
    spec = importlib.util.spec_from_file_location(f"{SCORER_MODULE}_{sha256_of(code)[:16]}", code)
    if spec is None or spec.loader is None:
        raise ArtifactError(f"{code} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.StudentScorer(student, threads=threads)
