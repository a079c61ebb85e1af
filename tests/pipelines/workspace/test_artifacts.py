"""Artifacts: named by what went into them, complete or not there, and never trusted without their digest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.tables.json_files import canonical_json, write_json
from feature_store.tables.seal import sealed
from pipelines.workspace import artifacts
from pipelines.workspace.artifacts import (
    Artifact,
    ArtifactError,
    DigestMemo,
    Verifier,
    fingerprint,
    point,
    publish_directory,
    read_json,
    recover,
)
from pipelines.workspace.manifest import MANIFEST, MadeFrom, Manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.dictionaries(st.text(min_size=1), JSON, min_size=1, max_size=4)


@given(KEYS, KEYS)
@settings(max_examples=50, deadline=None)
def test_equal_values_have_equal_fingerprints_and_others_have_not(one: dict, two: dict) -> None:
    shuffled = dict(reversed(list(one.items())))
    assert fingerprint("s", "code 1", one, {}) == fingerprint("s", "code 1", shuffled, {})
    same = canonical_json(one) == canonical_json(two)
    assert (fingerprint("s", "code 1", one, {}) == fingerprint("s", "code 1", two, {})) == same


def test_everything_that_a_stage_depends_on_is_in_its_fingerprint() -> None:
    base = fingerprint("s", "code 1", {"seed": 0}, {"a": "x"})
    changed = [
        fingerprint("t", "code 1", {"seed": 0}, {"a": "x"}),
        fingerprint("s", "code 2", {"seed": 0}, {"a": "x"}),
        fingerprint("s", "code 1", {"seed": 1}, {"a": "x"}),
        fingerprint("s", "code 1", {"seed": 0}, {"a": "y"}),
        fingerprint("s", "code 1", {"seed": 0}, {"b": "x"}),
    ]
    assert len({base, *changed}) == 6
    assert len(base) == 16


def made(path: Path, **files: str) -> Artifact:
    artifact = Artifact(path)
    artifact.begin(MadeFrom())
    for name, text in files.items():
        (path / name).write_text(text)
    artifact.publish(Manifest(seconds=1.0))
    return artifact


def test_an_artifact_stands_when_its_manifest_does(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "a")
    assert artifact.manifest is None
    artifact.begin(MadeFrom())
    (artifact.path / "out.txt").write_text("x")
    assert artifact.manifest is None
    manifest = artifact.publish(Manifest(seconds=2.0))
    assert artifact.manifest == manifest
    assert manifest.files["out.txt"].bytes == 1
    assert sorted(path.name for path in artifact.path.iterdir()) == [MANIFEST, "out.txt"]


def test_the_digest_covers_names_and_bytes(tmp_path: Path) -> None:
    one, same = made(tmp_path / "1", out="x"), made(tmp_path / "2", out="x")
    other, renamed = made(tmp_path / "3", out="y"), made(tmp_path / "4", name="x")
    digests = [artifact.finished.digest for artifact in (one, same, other, renamed)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_manifest_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = Artifact(tmp_path / "a")
    artifact.begin(MadeFrom())
    (artifact.path / "out.txt").write_text("x")

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        artifact.publish(Manifest())
    monkeypatch.undo()
    assert artifact.manifest is None


def test_an_unfinished_artifact_keeps_nothing_but_the_checkpoint_of_the_same_inputs(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "a")
    assert artifact.begin(MadeFrom(config={"seed": 1})) is False
    (artifact.path / "half.txt").write_text("half")
    (artifact.path / "folder").mkdir()
    artifact.checkpoint.mkdir()
    (artifact.checkpoint / "step").write_text("7")
    assert artifact.begin(MadeFrom(config={"seed": 1})) is True
    assert (artifact.checkpoint / "step").read_text() == "7"
    assert not (artifact.path / "half.txt").exists()
    assert not (artifact.path / "folder").exists()
    assert artifact.begin(MadeFrom(config={"seed": 2})) is False
    assert not artifact.checkpoint.exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "add", "manifest", "a number", "no files"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    artifact = made(tmp_path / "a", out="a long enough text", other="x")
    file = artifact.path / "out"
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[3] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(b"")
    elif damage == "remove":
        file.unlink()
    elif damage == "add":
        (artifact.path / "zebra").write_text("?")
    elif damage == "manifest":
        (artifact.path / MANIFEST).write_text("{")
    elif damage == "a number":
        text = (artifact.path / MANIFEST).read_text()
        (artifact.path / MANIFEST).write_text(text.replace('"bytes": 18', '"bytes": 19'))
    else:
        (artifact.path / MANIFEST).write_text("[]")
    with pytest.raises(ArtifactError) as error:
        Verifier().verify(artifact)
    name = {"add": "zebra", "manifest": MANIFEST, "no files": MANIFEST, "a number": MANIFEST}.get(damage, "out")
    assert str(artifact.path / name) in str(error.value)
    assert "run again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_read_once_per_process_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, verifier, read = made(tmp_path / "a", out="text"), Verifier(), []
    original = artifacts.sha256_of
    monkeypatch.setattr(artifacts, "sha256_of", lambda path: read.append(path) or original(path))
    verifier.verify(artifact)
    verifier.verify(artifact)
    assert len(read) == 1
    (artifact.path / "out").write_text("tex2")
    with pytest.raises(ArtifactError):
        verifier.verify(artifact)


def test_an_unfinished_artifact_is_not_used(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "a")
    artifact.begin(MadeFrom())
    with pytest.raises(ArtifactError, match="unfinished"):
        Verifier().verify(artifact)


def test_input_digests_are_remembered_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "log.csv", []
    file.write_text("a")
    original = artifacts.sha256_of
    monkeypatch.setattr(artifacts, "sha256_of", lambda path: read.append(path) or original(path))
    first = DigestMemo(tmp_path / "memo" / "m.json").digests({"log.csv": file})
    assert DigestMemo(tmp_path / "memo" / "m.json").digests({"log.csv": file}) == first
    assert len(read) == 1
    os.utime(file, ns=(1, 1))
    assert DigestMemo(tmp_path / "memo" / "m.json").digests({"log.csv": file}) == first
    assert len(read) == 2
    file.write_text("b")
    assert DigestMemo(tmp_path / "memo" / "m.json").digests({"log.csv": file}) != first


def test_a_damaged_memo_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("[")
    (tmp_path / "log.csv").write_text("a")
    assert len(DigestMemo(tmp_path / "m.json").digests({"log.csv": tmp_path / "log.csv"})["log.csv"]) == 64


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"auc": float("nan")})
    assert list(tmp_path.iterdir()) == []
    assert read_json(tmp_path / "x.json") is None


def test_a_directory_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("old", "new"):
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "f").write_text(text)
        publish_directory(tmp_path / "t", tmp_path / "scores" / "date=1")
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["date=1"]
    assert (tmp_path / "scores" / "date=1" / "f").read_text() == "new"


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_directory_is_never_lost_whenever_a_run_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    scores, done = tmp_path / "scores", []

    def publish(text: str) -> None:
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "f").write_text(text)
        publish_directory(tmp_path / "t", scores / "date=1")

    def replace(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(source.rename(target))

    publish("old")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", replace)
        patch.setattr(artifacts.shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        publish("new")
    recover(scores)
    assert [path.name for path in scores.iterdir()] == ["date=1"]
    assert (scores / "date=1" / "f").read_text() == ("new" if renames == 2 else "old")


def test_a_killed_replacement_is_recovered_by_the_next_one(tmp_path: Path) -> None:
    """Its own date's old copy outlives the writing of the new one, and another date's returns."""
    for date in "12":
        (tmp_path / "scores" / f".date={date}.old").mkdir(parents=True)
    (tmp_path / "t").mkdir()
    publish_directory(tmp_path / "t", tmp_path / "scores" / "date=1")
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["date=1", "date=2"]


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    point(tmp_path / "latest", "one")
    point(tmp_path / "latest", "two")
    assert str((tmp_path / "latest").readlink()) == "two"
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["latest"]'


def test_a_link_or_a_pipe_in_an_artifact_is_named_and_not_opened(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a", out="x", more="y")
    (artifact.path / "out").rename(tmp_path / "elsewhere")
    (artifact.path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"a/out is a link"):
        Verifier().verify(artifact)
    (artifact.path / "out").unlink()
    (tmp_path / "elsewhere").rename(artifact.path / "out")
    Verifier().verify(artifact)
    os.mkfifo(artifact.path / "pipe")
    with pytest.raises(ArtifactError, match=r"a/pipe is a pipe"):
        Verifier().verify(artifact)
    (artifact.path / "pipe").rename(artifact.path / MANIFEST)
    with pytest.raises(ArtifactError, match=rf"a/{MANIFEST} is a pipe"):
        Verifier().verify(artifact)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/hostname", "part/../../elsewhere"])
def test_a_manifest_names_files_of_its_own_folder_alone(tmp_path: Path, name: str) -> None:
    """Its seal is no signature: whoever writes the file can write the seal."""
    artifact = made(tmp_path / "a", out="x")
    (tmp_path / "elsewhere").write_text("x")
    listed = artifact.finished.files["out"]
    write_json(artifact.path / MANIFEST, sealed(Manifest(files={"out": listed, name: listed}).to_json()))
    with pytest.raises(ArtifactError, match=r"is no name of something below it"):
        Verifier().verify(artifact)


def test_a_link_in_the_place_of_an_artifact_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "a").symlink_to("precious")
    with pytest.raises(ArtifactError, match="is a link"):
        Artifact(tmp_path / "a").begin(MadeFrom())
    assert (tmp_path / "precious" / "file").exists()


def test_a_link_in_the_place_of_a_published_directory_is_replaced_and_not_emptied(tmp_path: Path) -> None:
    for name in ("precious", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "day").symlink_to(tmp_path / "precious")
    publish_directory(tmp_path / "new", tmp_path / "scores" / "day")
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["day"] and not (tmp_path / "scores" / "day").is_symlink()
    assert (tmp_path / "precious" / "file").read_text() == "precious"
