"""The MLflow model registry: versions of the student, and the aliases champion and challenger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipelines.errors import ConfigError
from pipelines.registry.alias_history import PROMOTE, ROLLBACK, Change, HistoryDamaged, changes_in, line_of_champions, tag_of
from pipelines.registry.model_package import REPAIR, seal_of, verify_model
from pipelines.tracking.client import TrackingError, connect, is_elsewhere, lock_of, reason_of, sqlite_file, unreachable, without_password
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.lock import held_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
GATE_TAG = "gate"
MADE_OF = "digest."  # begins the tags of a version that name the artifacts that it was made of
_SHOWN = 10
_STUDENT, _SEAL = "student_digest", "model_digest"


class Move(NamedTuple):
    """Which version an alias named before, and which it names now."""

    before: str | None
    after: str


class FilesUnreachable(ArtifactError):
    """A model's files could not be fetched from elsewhere: what keeps them may answer later."""

    code = 1


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
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_model_version_by_alias(self.name, alias).version)
        except MlflowException as error:
            if _is_missing(error):
                return None
            raise unreachable(self.uri, error) from error

    def register(self, run: str, model: Path, artifact_path: str, tags: Mapping[str, str], description: str = "") -> str:
        """Keep a saved model among the artifacts of an MLflow run, and register it as challenger.

        Parameters
        ----------
        run : str
            MLflow run.
        model : Path
            What :func:`pipelines.registry.model_package.save_model` wrote.
        artifact_path : str
            Where in the run's artifacts it goes.
        tags : mapping of str to str
            ``student_digest`` among them, by which :meth:`version_of` knows a student again. The digest of all files is added.
        description : str
            Markdown that the registry shows of the version.
        """
        try:
            self.client.log_artifacts(run, str(model), artifact_path)
            if not self.client.search_registered_models(f"name = '{self.name}'"):
                self.client.create_registered_model(self.name)
            source = f"{self.client.get_run(run).info.artifact_uri}/{artifact_path}"
            known = {**tags, _SEAL: seal_of(model)}
            version = str(self.client.create_model_version(self.name, source, run_id=run, tags=known, description=description).version)
        except Exception as error:  # of MLflow, its database or the network
            raise unreachable(self.uri, error) from error
        self.set_challenger(version)
        return version

    def set_challenger(self, version: str) -> None:
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
        return self.tags_of(version).get(_STUDENT)

    def add_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        try:
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, version, key, value)
        except Exception as error:
            raise unreachable(self.uri, error) from error

    def tags_of(self, version: str) -> dict[str, str]:
        """Tags of a version."""
        try:
            return dict(self.client.get_model_version(self.name, version).tags)
        except Exception as error:
            raise unreachable(self.uri, error) from error

    def promote(self, version: str, how: str = PROMOTE, why: str = "") -> Move:
        """Make a version champion; who replaced whom is noted, for :meth:`rollback` and for people.

        Parameters
        ----------
        version : str
        how : str
            ``gate`` or ``promote``.
        why : str
            The reason.
        """
        with self._alone():
            before = self.alias(CHAMPION)
            if before != version:
                self._change(Change(how, before, version, why), self.changes())
        return Move(before, version)

    def rollback(self, why: str = "") -> Move:
        """Make the previous champion champion again.

        Raises
        ------
        TrackingError
            When there was none.
        """
        with self._alone():
            before = self.alias(CHAMPION)
            if before is None:
                raise TrackingError(f"{self.name} has no champion, so there is none to go back from; run `ctr-kd promote` to make one")
            changes = self.changes()
            line = line_of_champions(changes, before)
            if len(line) < 2:
                raise TrackingError(f"{self.name} has no earlier champion to go back to")
            self._change(Change(ROLLBACK, before, line[-2], why), changes)
        return Move(before, line[-2])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other workspace of this machine move the champion meanwhile, where the registry is a file.

        A server has no such lock: there every change is kept under a key of its own, and what does not follow from the change before it is
        said where the history is shown (:func:`pipelines.registry.alias_history.breaks_in`).
        """
        database = sqlite_file(self.uri)
        if database is None:
            yield
            return
        with held_file(lock_of(database)):
            yield

    def changes(self) -> list[Change]:
        """Who replaced whom as champion, oldest first."""
        try:
            return changes_in(self.client.get_registered_model(self.name).tags)
        except HistoryDamaged:
            raise
        except Exception as error:
            if _is_missing(error):
                return []
            raise unreachable(self.uri, error) from error

    def _change(self, change: Change, known: list[Change]) -> None:
        """Note a change, then make it: a run that is killed between the two makes it when it is told again, and notes it once."""
        try:
            if not (known and change.is_again(known[-1])):
                self.client.set_registered_model_tag(self.name, *tag_of(change, len(known)))
            self.client.set_registered_model_alias(self.name, CHAMPION, change.after)
        except Exception as error:
            raise unreachable(self.uri, error) from error

    def download(self, uri: str, copy: Path | None = None) -> Path:
        """Local directory of a model, once its digests have been checked.

        Parameters
        ----------
        uri : str
            ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` of this registry, or whatever else MLflow can download.
        copy : Path, optional
            Where to put a copy, which is checked again and returned: nobody else writes there.

        Raises
        ------
        TrackingError
            When the registry does not answer.
        ConfigError
            When it knows no such model.
        ArtifactError
            When the model's files are lost or damaged.
        """
        path, expected = self.fetch(uri)
        verify_model(path, expected)
        if copy is None:
            return path
        shutil.copytree(path, copy, symlinks=True)
        verify_model(copy, expected)
        return copy

    def fetch(self, uri: str) -> tuple[Path, str | None]:
        """Local directory of a model of whoever made it, unchecked, and the digest of its files where the registry knows one.

        Parameters and errors are those of :meth:`download`.
        """
        from mlflow.artifacts import download_artifacts

        place, expected, advice = uri, None, "check --model"
        if uri.startswith("models:/"):
            # MLflow itself would look such a name up in its default registry, and create that where there is none.
            place, expected = self._place_of(uri)
            advice = REPAIR
        try:
            # MLflow would take a # or a ? in a folder's name for signs of a URI.
            path = Path(place) if Path(place).is_dir() else Path(download_artifacts(artifact_uri=place, tracking_uri=self.uri))
        except Exception as error:  # of MLflow or of whatever keeps its artifacts
            if place == uri and (_is_missing(error) or not (":/" in uri or Path(uri).exists())):
                why = "no run of that id" if uri.startswith("runs:") else "no such folder; a registered model is models:/NAME@ALIAS"
                raise ConfigError(f"{uri}: {why}") from error
            if isinstance(error, ImportError):
                raise ConfigError(f"{uri}: the Python package {error.name} that reads such a place is not installed") from error
            kind = FilesUnreachable if is_elsewhere(place) and not place.startswith("runs:") else ArtifactError
            raise kind(f"the files of {uri} cannot be read ({reason_of(error)}); {advice}") from error
        return path, expected

    def _place_of(self, uri: str) -> tuple[str, str | None]:
        """Where the files of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` lie, and their digest when they were registered."""
        name, at, alias = uri.removeprefix("models:/").partition("@")
        try:
            if at:
                found = self.client.get_model_version_by_alias(name, alias)
            else:
                name, _, version = name.rpartition("/")
                found = self.client.get_model_version(name, version)
            return str(self.client.get_model_version_download_uri(name, found.version)), dict(found.tags).get(_SEAL)
        except Exception as error:
            if _is_missing(error):
                raise self.absent(uri) from error
            raise unreachable(self.uri, error) from error

    def absent(self, uri: str) -> ConfigError:
        """What to say of a ``models:/`` URI that names nothing: which of name, alias and version does not exist, and which do."""
        name, at, alias = uri.removeprefix("models:/").partition("@")
        name, slash, version = (name, "", "") if at else name.rpartition("/")
        if not name or not (at or slash):
            return ConfigError(f"{uri} names no model: write models:/NAME@ALIAS or models:/NAME/VERSION")
        try:
            names = sorted(model.name for model in self.client.search_registered_models())
            if name not in names:
                place = f"MLflow at {without_password(self.uri)}"
                return ConfigError(f"{uri}: {place} has no registered model {name}; it has {_listed(names) if names else 'none'}")
            if at:
                there = [f"{one} (version {number})" for one, number in sorted(self.client.get_registered_model(name).aliases.items())]
            else:
                found = sorted(int(one.version) for one in self.client.search_model_versions(f"name = '{name}'"))
                there = [str(number) for number in found]
        except Exception as error:
            return ConfigError(f"{uri} does not exist, and what does cannot be said: {reason_of(error)}")
        what, known = (f"alias {alias}", "aliases") if at else (f"version {version}", "versions")
        return ConfigError(f"{uri}: {name} has no {what}; {f'its {known} are {_listed(there)}' if there else 'it has none'}")


def _listed(names: Sequence[str]) -> str:
    """Some of them, where there are many."""
    return ", ".join(names[-_SHOWN:]) + (f", and {len(names) - _SHOWN} older ones" if len(names) > _SHOWN else "")


def _is_missing(error: Exception) -> bool:
    """Whether the registry answered that it has no such model, version or alias; for some of them MLflow says "invalid"."""
    return getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
