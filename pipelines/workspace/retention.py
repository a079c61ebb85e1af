"""What a workspace no longer needs: which artifacts, reports and unfinished scorings may go, and how they go.

Kept is what is alive (named by the caller), what is young, the newest of each stage, and all that any of these was made from. What was
made of others goes before them, so that nothing ever stands without what it was made from, and of each artifact its manifest goes first:
whenever a removal is killed, what is left is a workspace in which some stages are to be made again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines.workspace.artifacts import Artifact, ArtifactError, read_json_as
from pipelines.workspace.manifest import MANIFEST, Manifest, ReportManifest

Key = tuple[str, str]  # stage and fingerprint
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
Kind = Literal[
    "artifact",
    "unfinished artifact",
    "report",
    "unfinished scoring",
    "folder of vectors",
    "folder of teacher states",
    "scores of a teacher",
]
TEACHERS = "teachers"  # in a workspace: a folder by teacher, touched whenever it is read
VECTORS = "embeddings"  # in a workspace, and of an artifact's facts the one that names the folder there that its rows read
TEACHER_STATES = "teacher_states"  # likewise


@dataclass(frozen=True)
class Removal:
    """Something that may go.

    Attributes
    ----------
    kind : str
    path : Path
    bytes : int
    """

    kind: Kind
    path: Path
    bytes: int

    def carry_out(self) -> None:
        """Remove it."""
        if self.kind in ("artifact", "unfinished artifact"):
            Artifact(self.path).forget()
        else:
            (self.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self.path)


def removals(workspace: Path, alive: Collection[Key], keep: int, before: datetime) -> list[Removal]:
    """What may go, in the order in which it goes.

    Parameters
    ----------
    workspace : Path
        Held by its lock.
    alive : collection of (str, str)
        Stages and fingerprints of what is needed, whatever its age.
    keep : int
        Newest artifacts of each stage that stay.
    before : datetime
        What was begun later stays.
    """
    finished, unfinished = _artifacts(workspace)
    newest = sorted(finished, key=lambda key: finished[key].started, reverse=True)
    of_stage: dict[str, int] = {}
    stays = set(alive)
    for key in newest:
        of_stage[key[0]] = of_stage.get(key[0], 0) + 1
        if of_stage[key[0]] <= keep or _began(finished[key]) >= before:
            stays.add(key)
    stays = set(_with_what_they_are_made_of(stays, finished))
    folder = workspace / "artifacts"
    old = [folder.joinpath(*key) for key in reversed(_with_what_they_are_made_of(finished, finished)) if key not in stays]
    goes = [Removal("artifact", path, size_of(path)) for path in old]
    wanted = [path for path in unfinished if (path.parent.name, path.name) not in alive and _touched(path) < before]
    goes += [Removal("unfinished artifact", path, size_of(path)) for path in wanted]
    kept = {key[1] for key in stays}
    goes += [Removal("report", path, size_of(path)) for path in _reports(workspace) if path.name not in kept and _touched(path) < before]
    scorings = [path for path in _folders(workspace / "scores") if path.name.startswith(".") and path.name.endswith(".parts")]
    goes += [Removal("unfinished scoring", path, size_of(path)) for path in scorings if _touched(path) < before]
    kinds: dict[str, Kind] = {VECTORS: "folder of vectors", TEACHER_STATES: "folder of teacher states"}
    for name, kind in kinds.items():
        read = {finished[key].facts.get(name) for key in stays}
        unread = [path for path in _folders(workspace / name) if path.name not in read]
        goes += [Removal(kind, path, size_of(path)) for path in unread if _touched(path) < before]
    scores = [path for path in _folders(workspace / TEACHERS) if _touched(path) < before]
    return goes + [Removal("scores of a teacher", path, size_of(path)) for path in scores]


def size_of(path: Path) -> int:
    """Bytes of the files below a folder, or of a file; nothing is followed out of it."""
    if not path.is_dir() or path.is_symlink():
        return _bytes(path)
    return sum(_bytes(Path(at) / name) for at, _, names in os.walk(path) for name in names)


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:  # another command may work here
        return 0


def _artifacts(workspace: Path) -> tuple[dict[Key, Manifest], list[Path]]:
    """The finished artifacts, and the folders of those that are not.

    Neither is what has another name than an artifact (stages keep their failures beside them), or a manifest that is damaged or of an
    earlier release.
    """
    finished: dict[Key, Manifest] = {}
    unfinished: list[Path] = []
    for stage in _folders(workspace / "artifacts"):
        for path in _folders(stage):
            if not _FINGERPRINT.fullmatch(path.name):
                continue
            try:
                manifest = Artifact(path).manifest
            except ArtifactError:
                continue
            if manifest is not None:
                finished[stage.name, path.name] = manifest
            elif not (path / MANIFEST).exists():
                unfinished.append(path)
    return finished, unfinished


def _with_what_they_are_made_of(keys: Iterable[Key], finished: Mapping[Key, Manifest]) -> list[Key]:
    """The finished of some keys and all that they were made from, in an order in which each stands behind what it was made from."""
    order: list[Key] = []
    seen: set[Key] = set()

    def visit(key: Key) -> None:
        if key in finished and key not in seen:
            seen.add(key)
            for other in _made_from(finished[key]):
                visit(other)
            order.append(key)

    for key in sorted(keys):
        visit(key)
    return order


def _made_from(manifest: Manifest) -> Iterator[Key]:
    """The artifacts among the inputs; an experiment, which has many of one stage, names them STAGE/FINGERPRINT."""
    for name, one in manifest.inputs.items():
        stage, found, fingerprint = name.partition("/")
        if one.fingerprint is not None:
            yield name, one.fingerprint
        elif found:
            yield stage, fingerprint


def _reports(workspace: Path) -> Iterator[Path]:
    """Published reports, but the one that ``latest`` names and those that are of no artifact."""
    reports = workspace / "reports"
    latest = (reports / "latest").resolve()
    for path in _folders(reports):
        try:
            manifest = read_json_as(path / MANIFEST, ReportManifest)
        except ArtifactError:
            continue
        if manifest is not None and path.resolve() != latest and manifest.stage != path.name:
            yield path


def _folders(path: Path) -> list[Path]:
    """Real folders in a folder, by name: what a link leads to is not ours."""
    if not path.is_dir():
        return []
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.is_symlink())


def _began(manifest: Manifest) -> datetime:
    try:
        began = datetime.fromisoformat(manifest.started)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)  # who does not say is not old
    return began if began.tzinfo else began.replace(tzinfo=UTC)


def _touched(path: Path) -> datetime:
    """When something in a folder was written last."""
    newest = max(Path(at).lstat().st_mtime for at, _, _ in os.walk(path))
    return datetime.fromtimestamp(newest, UTC)
