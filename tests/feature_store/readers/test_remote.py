"""Files behind a URL: copied once, copied again when they change, and what goes wrong is one line that loses nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from feature_store.config_types import is_url
from feature_store.readers import remote
from feature_store.readers.remote import copy_file, copy_of, file_name, require_writable, write_file
from feature_store.tables.contracts import DataError, DataFolderError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "dt=2024-05-01").mkdir(parents=True)
    (folder / "dt=2024-05-01" / "a b.csv").write_text("u,i\n1,2\n")
    (folder / "items.csv").write_text("id\n2\n")
    (folder / "_temporary").mkdir()
    (folder / ".hidden.csv").write_text("no")
    return folder


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".files.json")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_a_copy_follows_what_is_there(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    url, copy = source.as_uri(), tmp_path / "copy"
    assert is_url(url) and copy_of(url, copy, said.append) == copy
    assert files(copy) == {"dt=2024-05-01/a b.csv": "u,i\n1,2\n", "items.csv": "id\n2\n"} and "copies 2 of 2 files" in said[1]
    before = (copy / "items.csv").stat().st_ino
    (source / "new.csv").write_text("x")
    (source / "dt=2024-05-01" / "a b.csv").unlink()
    copy_of(url, copy, said.append)
    assert sorted(files(copy)) == ["items.csv", "new.csv"] and (copy / "items.csv").stat().st_ino == before and "copies 1 of 2" in said[-1]
    (source / "items.csv").write_text("id\n3\n")  # as long as before, and later
    os.utime(source / "items.csv", ns=(1, 1))
    copy_of(url, copy, said.append)
    assert files(copy)["items.csv"] == "id\n3\n"
    (copy / "new.csv").unlink()  # somebody tidied up
    (copy / ".files.json").write_text((copy / ".files.json").read_text())
    copy_of(url, copy)
    assert files(copy)["new.csv"] == "x"
    (copy / ".files.json").write_text("{")
    assert files(copy_of(url, copy)) == files(copy)
    other = tmp_path / "other"
    other.mkdir()
    (other / "only.csv").write_text("y")
    assert files(copy_of(other.as_uri(), copy)) == {"only.csv": "y"}  # of another URL nothing is left


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///no/such/folder", "does not exist"),
        ("ftp://host/logs", "is no URL that can be read here"),
        ("s3://key:secret@bucket/logs", "a URL must hold no credentials; give them in the environment"),
    ],
)
def test_what_is_no_folder_is_said(url: str, said: str, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(DataFolderError) as error:
        copy_of(url, tmp_path / "copy", lines.append)
    assert said in str(error.value) and "secret" not in str([*lines, error.value]) and "\n" not in str(error.value)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(DataFolderError, match="holds no file"):
        copy_of((tmp_path / "source").as_uri(), tmp_path / "copy")


class _Broken:
    """A file system whose connection breaks after so many bytes of a file."""

    def __init__(self, name: str) -> None:
        self._local, self._name, self.opened = fs.LocalFileSystem(), name, list[str]()

    def get_file_info(self, selector: Any) -> Any:
        return self._local.get_file_info(selector)

    def open_input_stream(self, path: str) -> Any:
        self.opened.append(Path(path).name)
        stream = self._local.open_input_stream(path)
        if Path(path).name != self._name:
            return stream
        reads = iter([stream.read(3)])

        class Stream:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                stream.close()

            def read(self, size: int) -> bytes:
                for chunk in reads:
                    return bytes(chunk)
                raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56")

        return Stream()


def test_a_connection_that_breaks_leaves_no_half_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, copy = _Broken("items.csv"), tmp_path / "copy"
    with monkeypatch.context() as patch:
        patch.setattr(remote, "file_system_of", lambda url: (broken, str(source)))
        with pytest.raises(DataError) as error:
            copy_of("s3://bucket/logs?region=x", copy)
    assert "s3://bucket/logs/items.csv: cannot be read to its end (AWS Error NETWORK_CONNECTION" in str(error.value)
    assert "run it again" in str(error.value) and list(files(copy)) == ["dt=2024-05-01/a b.csv"]
    whole = _Broken("nothing")
    monkeypatch.setattr(remote, "file_system_of", lambda url: (whole, str(source)))
    copy_of("s3://bucket/logs?region=x", copy)
    assert whole.opened == ["items.csv"] and sorted(files(copy)) == ["dt=2024-05-01/a b.csv", "items.csv"]  # what was whole was kept


def test_a_file_that_changes_while_it_is_copied(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(_Broken):
        def open_input_stream(self, path: str) -> Any:
            return self._local.open_input_stream(str(source / "items.csv"))

    grown = Changed("nothing")
    monkeypatch.setattr(remote, "file_system_of", lambda url: (grown, str(source)))
    with pytest.raises(DataError, match="changed while it was copied; run it again"):
        copy_of("s3://bucket/logs", tmp_path / "copy")
    assert files(tmp_path / "copy") == {}


def test_one_file_is_copied_once_and_written_whole(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    url = (source / "items.csv").as_uri()
    copy = copy_file(url, tmp_path / "copy", said.append)
    assert copy == tmp_path / "copy" / "items.csv" and copy.read_text() == "id\n2\n" and said == [f"copies 0.0 MB from {url}"]
    assert copy_file(url, tmp_path / "copy", said.append) == copy and len(said) == 1
    os.utime(source / "items.csv", ns=(1, 1))
    copy_file(url, tmp_path / "copy", said.append)
    assert len(said) == 2 and copy.stat().st_mtime_ns == 1
    target = tmp_path / "new" / "deep" / "out.csv"
    require_writable(target.as_uri())
    assert list(target.parent.iterdir()) == []
    write_file(copy, target.as_uri())
    write_file(source / "dt=2024-05-01" / "a b.csv", target.as_uri())  # in place of the one before
    assert target.read_text() == "u,i\n1,2\n" and list(target.parent.iterdir()) == [target] and file_name(target.as_uri()) == "out.csv"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///no/such.parquet", "there is no such file"),
        ("ftp://host/logs.parquet", "is no URL that can be read here"),
        ("s3://key:secret@bucket/rows.parquet", "a URL must hold no credentials"),
        ("abfs://box@account.dfs.core.windows.net/rows.parquet?sig=secret", "a URL must hold no credentials"),
        ("s3://bucket/rows.parquet?aws_secret_access_key=secret", "a URL must hold no credentials"),
    ],
)
def test_a_file_that_is_none_is_said(url: str, said: str, tmp_path: Path) -> None:
    for act in (lambda: copy_file(url, tmp_path), *([] if "no such" in said else [lambda: require_writable(url), lambda: file_name(url)])):
        with pytest.raises(DataError, match=said) as error:
            act()
        assert not isinstance(error.value, DataFolderError) and "secret" not in str(error.value) and "\n" not in str(error.value)


def test_an_upload_that_breaks_leaves_what_was_there(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")

    class Full(_Broken):
        type_name = "s3"

        def open_output_stream(self, path: str) -> Any:
            stream = self._local.open_output_stream(path)

            class Stream:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *error: object) -> None:
                    stream.close()  # and so keeps the beginning

                def write(self, chunk: bytes) -> None:
                    stream.write(chunk[:2])
                    raise OSError("AWS Error NETWORK_CONNECTION during UploadPart operation")

            return Stream()

        def delete_file(self, path: str) -> None:
            self._local.delete_file(path)

    monkeypatch.setattr(remote, "file_system_of", lambda url: (Full(""), str(target)))
    with pytest.raises(DataError, match=r"out.csv: cannot be written \(AWS Error NETWORK_CONNECTION.*run it again"):
        write_file(source / "items.csv", "s3://bucket/out.csv")
    assert target.read_text() == "before" and not (tmp_path / ".out.csv.part").exists()


@pytest.mark.parametrize("url", ["abfs://box@account.dfs.core.windows.net/logs", "hdfs://me@host:9000/logs"])
def test_a_name_before_the_host_is_no_password(url: str) -> None:
    remote._refuse_credentials(url)
    with pytest.raises(DataFolderError, match="a URL must hold no credentials"):
        remote._refuse_credentials(url.replace("@", ":secret@"))
