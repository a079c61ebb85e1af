"""Which files below a folder may be opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_store.tables.files import UnsafeFile, open_regular, sha256_of
from feature_store.tables.folders import below, regular_file, regular_files
from feature_store.tables.json_files import load_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("{}")
    (tmp_path / "folder" / "part").mkdir(parents=True)
    (tmp_path / "folder" / "part" / "file").write_text("{}")
    return tmp_path / "folder"


MAKERS: dict[str, Callable[[Path], None]] = {
    "link to a file": lambda path: path.symlink_to("../outside/secret"),
    "link to a folder": lambda path: path.symlink_to("../outside/deep"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a file of the folder": lambda path: path.symlink_to("part/file"),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_whatever_is_no_file_of_the_folder_is_named_and_not_opened(folder: Path, make: Callable[[Path], None]) -> None:
    assert regular_files(folder) == ["part/file"]
    make(folder / "thing")
    for look in (lambda: regular_files(folder), lambda: regular_file(folder, "thing"), lambda: load_json(folder / "thing")):
        with pytest.raises(UnsafeFile, match=r"folder/thing is a (link|pipe)"):
            look()


def test_nothing_is_reached_through_a_linked_folder(folder: Path) -> None:
    (folder / "way").symlink_to("../outside")
    for name in ("way/secret", "way/deep", "way/new"):
        with pytest.raises(UnsafeFile, match=r"folder/way is a link"):
            below(folder, name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../outside/secret", "part/../../outside/secret", "/etc/passwd", "part//file", "./part", "a\0b"]
)
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(UnsafeFile, match="is no name of something below it"):
        below(folder, name)


def test_the_folder_itself_may_be_reached_by_a_link(folder: Path) -> None:
    (folder.parent / "way").symlink_to("folder")
    assert regular_files(folder.parent / "way") == ["part/file"]
    assert regular_file(folder.parent / "way", "part/file").read_text() == "{}"
    with pytest.raises(FileNotFoundError):
        regular_file(folder, "part/none")
    with pytest.raises(UnsafeFile, match=r"part is a folder"):
        regular_file(folder, "part")


def test_a_users_own_file_may_be_a_link_and_a_pipe_is_never_waited_for(folder: Path) -> None:
    (folder / "link").symlink_to("part/file")
    assert sha256_of(folder / "link") == sha256_of(folder / "part" / "file")
    os.mkfifo(folder / "pipe")
    for path, kind in ((folder / "pipe", "a pipe"), (Path("/dev/null"), "a device"), (folder, "a folder")):
        with pytest.raises(UnsafeFile, match=kind):
            open_regular(path, follow=True)
