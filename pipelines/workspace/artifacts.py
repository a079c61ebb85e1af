"""Artifacts: immutable directories named by the fingerprint of what went into them.

The manifest is written last, by rename. So a directory either has a manifest and is complete, or has none and is never
read: there is no state in between, whenever a process is killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from feature_store.tables.files import UnsafeFile, sha256_of, sync
from feature_store.tables.folders import regular_file, regular_files
from feature_store.tables.json_files import digest_of, load_json, write_json
from feature_store.tables.json_models import JsonModel
from feature_store.tables.seal import SEAL, sealed, unsealed
from pipelines.workspace.manifest import MANIFEST, FileDigest, MadeFrom, Manifest

STARTED = "_started.json"  # what an unfinished artifact is being made from; gone once there is a manifest
CHECKPOINT = "checkpoint"

Content = TypeVar("Content", bound=JsonModel)


class ArtifactError(Exception):
    """A stored artifact cannot be trusted. The message is one line: which file, what is wrong, what to do."""

    code = 3


def fingerprint(stage: str, source: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Name of a stage's artifact: a digest of its inputs, the configuration keys that it reads and the source that it runs.

    Parameters
    ----------
    stage : str
    source : str
        Digest of the source that the stage runs; see :mod:`pipelines.workspace.source_digest`.
    config : mapping
        The keys that the stage reads, and no others: changing any other key keeps the artifact.
    inputs : mapping of str to str
        Fingerprints of earlier stages and digests of inputs from outside.

    Returns
    -------
    str
        16 hexadecimal digits.

    Examples
    --------
    >>> one = fingerprint("distill", "c0de", {"seed": 0}, {"finetune": "ab"})
    >>> one == fingerprint("distill", "c0de", {"seed": 0}, {"finetune": "ab"}), one == fingerprint("distill", "c1de", {"seed": 0}, {})
    (True, False)
    """
    return digest_of({"stage": stage, "source": source, "config": config, "inputs": inputs})[:16]


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file of the workspace; None where there is none.

    Raises
    ------
    ArtifactError
        When it is there but holds no JSON object.
    """
    try:
        value = load_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnsafeFile as error:
        raise ArtifactError(f"{error}; delete {path.parent} and run again") from None
    except ValueError:
        raise ArtifactError(f"{path} is damaged: not JSON; delete {path.parent} and run again") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is damaged: not a JSON object; delete {path.parent} and run again")
    return value


def read_json_as(path: Path, kind: type[Content]) -> Content | None:
    """Read a JSON file of the workspace as a typed object; None where there is none.

    Raises
    ------
    ArtifactError
        When it is there but holds something else.
    """
    content = read_json(path)
    try:
        return None if content is None else kind.from_json(content)
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}; delete {path.parent} and run again") from None


def read_manifest(directory: Path, kind: type[Content]) -> Content | None:
    """Read the manifest of a directory; None where there is none, or one without a seal, whose directories are made again.

    Parameters
    ----------
    directory : Path
    kind : type
        What the manifest holds.

    Raises
    ------
    ArtifactError
        When a byte of it was changed, or it holds something else.
    """
    manifest = read_json(directory / MANIFEST)
    try:
        return None if manifest is None or SEAL not in manifest else kind.from_json(unsealed(manifest))
    except ValueError as error:
        raise ArtifactError(f"{directory / MANIFEST} is damaged: {error}; delete {directory} and run again") from None


def files_of(directory: Path) -> Iterator[str]:
    """Files of an artifact in a fixed order, relative to it: all but the manifest, the marker and the checkpoint.

    Raises
    ------
    ArtifactError
        Naming a link, a pipe or a device that lies there.
    """
    try:
        names = regular_files(directory)
    except UnsafeFile as error:
        raise ArtifactError(f"{error}; delete {directory} and run again") from None
    for name in sorted(names, key=PurePosixPath):
        if name.split("/", 1)[0] not in (MANIFEST, STARTED, CHECKPOINT):
            yield name


@dataclass(frozen=True)
class Artifact:
    """One directory ``artifacts/STAGE/FINGERPRINT``.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def manifest(self) -> Manifest | None:
        """What the manifest says; None while the artifact is unfinished."""
        return read_manifest(self.path, Manifest)

    @property
    def finished(self) -> Manifest:
        """What the manifest says.

        Raises
        ------
        ArtifactError
            While the artifact is unfinished.
        """
        manifest = self.manifest
        if manifest is None:
            raise ArtifactError(f"{self.path} is unfinished: it has no {MANIFEST}; run its stage again")
        return manifest

    @property
    def checkpoint(self) -> Path:
        """Where a training stage keeps what a killed run continues from."""
        return self.path / CHECKPOINT

    def begin(self, made_from: MadeFrom) -> bool:
        """Prepare the directory for its stage; returns whether a checkpoint is there to continue from.

        Files that a killed run left are removed, as nothing says whether they are complete. Its checkpoint stays, unless it
        was made from other inputs than these.
        """
        if self.path.is_symlink():  # what lies elsewhere is not ours to empty
            raise ArtifactError(f"{self.path} is a link; remove it and run again")
        (self.path / MANIFEST).unlink(missing_ok=True)  # first: from here on the artifact is unfinished
        same = read_json(self.path / STARTED) == made_from.to_json() if (self.path / STARTED).exists() else False
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.path.iterdir():
            if path.name != CHECKPOINT or not same:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_json(self.path / STARTED, made_from.to_json())
        return self.checkpoint.is_dir() and any(self.checkpoint.iterdir())

    def forget(self) -> None:
        """Remove the artifact and whatever a killed run left of it."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)

    def publish(self, manifest: Manifest) -> Manifest:
        """Write the manifest: from here on the artifact is complete and does not change any more.

        Parameters
        ----------
        manifest : Manifest
            What it says besides its files: inputs, configuration, seconds, versions, ...

        Returns
        -------
        Manifest
            With the files; its ``digest`` covers the names and bytes of all of them.
        """
        files = {}
        for name in files_of(self.path):
            sync(self.path / name)
            files[name] = FileDigest(sha256=sha256_of(self.path / name), bytes=(self.path / name).stat().st_size)
        digest = digest_of({name: file.sha256 for name, file in files.items()})
        manifest = manifest.model_copy(update={"digest": digest, "files": files})
        write_json(self.path / MANIFEST, sealed(manifest.to_json()))
        self.tidy()
        return manifest

    def tidy(self) -> None:
        """Remove what only an unfinished artifact needs (a run may have been killed just before it came to this)."""
        if self.checkpoint.exists():
            shutil.rmtree(self.checkpoint)
        (self.path / STARTED).unlink(missing_ok=True)


class Verifier:
    """Checks files against the digests of their manifests, each file once per process as long as nobody touches it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, int, int]] = {}

    def verify(self, artifact: Artifact) -> None:
        """Make sure that every file of an artifact still has the bytes that its stage wrote.

        Raises
        ------
        ArtifactError
            Naming the file that is missing, was changed or does not belong there.
        """
        manifest = artifact.finished
        for name, file in manifest.files.items():
            self._verify_file(name, file.sha256, artifact.path)
        strangers = set(files_of(artifact.path)) - manifest.files.keys()
        if strangers:
            raise ArtifactError(f"{artifact.path / min(strangers)} does not belong to its artifact; delete that file and run again")

    def _verify_file(self, name: str, expected: str, directory: Path) -> None:
        try:
            path = regular_file(directory, name)
            status = path.stat()
        except FileNotFoundError:
            raise ArtifactError(f"{directory / name} is missing; delete {directory} and run again") from None
        except UnsafeFile as error:
            raise ArtifactError(f"{error}; delete {directory} and run again") from None
        state = (status.st_size, status.st_mtime_ns, status.st_ino)
        if self._seen.get((str(path), expected)) == state:
            return
        if sha256_of(path) != expected:
            raise ArtifactError(f"{path} does not match its digest in {MANIFEST}; delete {directory} and run again")
        self._seen[str(path), expected] = state


class DigestMemo:
    """sha256 of input files, remembered between runs by path, size and modification time.

    Parameters
    ----------
    path : Path
        File of the memo. A damaged memo is started afresh: it only saves time.
    keep : bool
        Whether what is found out is written down; False for who may only look.
    """

    def __init__(self, path: Path, keep: bool = True) -> None:
        self._path, self._keep = path, keep
        try:
            self._known: dict[str, Any] = unsealed(read_json(path) or {})
        except (ArtifactError, ValueError):
            self._known = {}

    def digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        """sha256 of each file, by the name given to it."""
        fresh: dict[str, Any] = {}
        for path in files.values():
            status = path.stat()
            state = [status.st_size, status.st_mtime_ns]
            known = self._known.get(str(path.absolute()))
            fresh[str(path.absolute())] = known if known and known[:2] == state else [*state, sha256_of(path)]
        if self._keep and any(self._known.get(key) != value for key, value in fresh.items()):
            self._known = {**self._known, **fresh}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, sealed(self._known))
        return {name: fresh[str(path.absolute())][2] for name, path in files.items()}


def publish_directory(temporary: Path, final: Path) -> None:
    """Put a complete directory in the place of another, which is moved aside first and then removed.

    A run that is killed between the two renames leaves the place empty and the old directory beside it: see :func:`recover`.
    """
    for path in temporary.rglob("*"):
        if path.is_file():
            sync(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    recover(final.parent)
    if final.exists():
        final.replace(_aside(final))
    temporary.replace(final)
    sync(final.parent)
    recover(final.parent)


def recover(parent: Path) -> None:
    """End what a killed :func:`publish_directory` began: an old directory returns to its place, or goes where a new one took it."""
    for old in sorted(parent.glob(_aside(parent / "*").name)):
        final = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if old.is_symlink():  # what it leads to is not ours to remove
            old.unlink()
        elif final.exists():
            shutil.rmtree(old)
        else:
            old.replace(final)
            sync(parent)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def point(link: Path, target: str) -> None:
    """Let a symbolic link name another target in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
