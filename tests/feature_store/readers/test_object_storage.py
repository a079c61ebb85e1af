"""A real S3 API on loopback, where moto is installed (make test-extras)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest

from feature_store.config import SourceConfig
from feature_store.readers.remote import copy_file, copy_of, require_writable, write_file
from feature_store.readers.remote_log import copy_of_log
from feature_store.readers.tabular import TabularReader
from feature_store.tables.contracts import DataError, DataFolderError

moto_server = pytest.importorskip("moto.server", reason="moto is not installed: make test-extras installs it")
CONF = """
source:
  reader: tabular
  events: {path: "**/log.csv", user: u, item: i, time: dt, clicked: c}
split: {fractions: [0.6, 0.2, 0.2]}
"""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where it answers; the bucket ``logs`` is there."""
    for name, value in (("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"), ("AWS_EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(name, value)
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = f"{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"http://{place}/moto-api/reset", method="POST")).close()
    put(place, "logs")
    yield place
    server.stop()


def put(place: str, key: str, content: str = "") -> None:
    headers = {"Content-Type": "text/csv"}  # else the server takes the content for a form
    urllib.request.urlopen(urllib.request.Request(f"http://{place}/{key}", data=content.encode(), method="PUT", headers=headers)).close()


def url(place: str, path: str = "logs/shop") -> str:
    return f"s3://{path}?scheme=http&endpoint_override={place.replace(':', '%3A')}&region=us-east-1"


def test_a_bucket_is_copied_and_followed(endpoint: str, tmp_path: Path) -> None:
    put(endpoint, "logs/shop/dt=2024-05-01/log.csv", "u,i,c\n1,2,1\n")
    put(endpoint, "logs/other/log.csv", "no")
    copy = copy_of(url(endpoint), tmp_path / "copy")
    assert [path.relative_to(copy).as_posix() for path in copy.rglob("*.csv")] == ["dt=2024-05-01/log.csv"]
    put(endpoint, "logs/shop/dt=2024-05-02/log.csv", "u,i,c\n1,2,0\n")
    copy_of(url(endpoint), copy)
    assert (copy / "dt=2024-05-02" / "log.csv").read_text() == "u,i,c\n1,2,0\n"
    assert sorted(json.loads((copy / ".files.json").read_text())["files"]) == ["dt=2024-05-01/log.csv", "dt=2024-05-02/log.csv"]


def test_what_is_not_there_is_one_line(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("nowhere/shop", "logs/nothing"):
        with pytest.raises((DataError, DataFolderError), match=r"does not exist|holds no file"):
            copy_of(url(endpoint, path), tmp_path / "copy")
    with pytest.raises(DataError, match="cannot be listed") as error:
        copy_of(url("127.0.0.1:9"), tmp_path / "copy")  # nobody answers there
    assert "\n" not in str(error.value) and "testing" not in str(error.value)


def test_the_program_reads_a_bucket(endpoint: str, tmp_path: Path) -> None:
    rows = "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(60))
    for day in range(1, 9):
        put(endpoint, f"logs/shop/dt=2024-05-0{day}/log.csv", "u,i,c\n" + rows)
    (tmp_path / "mine.yaml").write_text(CONF)
    program = [sys.executable, "-m", "pipelines"]

    def run(*arguments: str) -> str:
        command = [*program, *arguments, "--workspace", str(tmp_path / "workspace")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    said = run("ingest", str(tmp_path / "mine.yaml"), "--data", url(endpoint))
    assert "copies 8 of 8 files" in said and "480 rows stored" in said
    put(endpoint, "logs/shop/dt=2024-05-09/log.csv", "u,i,c\n" + rows)
    said = run("ingest", str(tmp_path / "mine.yaml"))  # it remembers where the log lies
    assert "copies 1 of 9 files" in said and "60 rows stored" in said


def test_a_delta_table_in_a_bucket(endpoint: str, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: make test-extras installs it")
    table, place = tmp_path / "log", url(endpoint)
    source = SourceConfig.model_validate({"reader": "tabular", "events": {"delta": place, "user": "u", "item": "i", "time": "t"}})
    read = []
    for user in (1, 2):
        deltalake.write_deltalake(
            table, pa.table({"u": [user], "i": [5], "t": [1717200000], "shop": ["a b/c"]}), partition_by=["shop"], mode="append"
        )
        for file in table.rglob("*"):
            if file.is_file():
                write_file(file, place.replace("/shop?", f"/shop/{quote(file.relative_to(table).as_posix())}?"))
        reader = TabularReader(source, copy_of_log(source, place, tmp_path / "copy"))
        read.append(sorted(batch.table["user_id"][0].as_py() for batch in reader.read(reader.files())))
    assert read == [[1], [1, 2]]


def test_one_file_comes_and_goes_whole(endpoint: str, tmp_path: Path) -> None:
    put(endpoint, "logs/in/rows.csv", "u,i\n1,2\n")
    copy = copy_file(url(endpoint, "logs/in/rows.csv"), tmp_path)
    said: list[str] = []
    assert copy_file(url(endpoint, "logs/in/rows.csv"), tmp_path, said.append) == copy and said == []
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(20 << 20))  # in several pieces
    require_writable(url(endpoint, "logs/out/large.bin"))
    for file in (copy, large):
        write_file(file, url(endpoint, "logs/out/large.bin"))
    back = copy_file(url(endpoint, "logs/out/large.bin"), tmp_path / "back")
    assert back.read_bytes() == large.read_bytes()
    listed = urllib.request.urlopen(f"http://{endpoint}/logs?list-type=2&prefix=out").read().decode()
    assert "large.bin" in listed and ".part" not in listed


def test_a_file_that_cannot_come_or_go_is_one_line(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("u,i")
    put(endpoint, "logs/in/rows.csv", "u,i")
    cases = {
        "nowhere/rows.csv.*: there is no such file": lambda: copy_file(url(endpoint, "nowhere/rows.csv"), tmp_path / "copy"),
        "nowhere/rows.csv.*cannot be written .*NO_SUCH_BUCKET": lambda: require_writable(url(endpoint, "nowhere/rows.csv")),
        "logs/rows.csv.*cannot be written .*check the URL": lambda: write_file(tmp_path / "rows.csv", url("127.0.0.1:9", "logs/rows.csv")),
    }
    for said, act in cases.items():
        with pytest.raises(DataError, match=said) as error:
            act()
        assert "\n" not in str(error.value) and "testing" not in str(error.value)
    ask_who_it_is(endpoint, True)
    try:
        for said, act in {
            "cannot be read .*ACCESS_DENIED": lambda: copy_file(url(endpoint, "logs/in/rows.csv"), tmp_path / "copy"),
            "cannot be written .*denied|cannot be written .*INVALID": lambda: require_writable(url(endpoint, "logs/rows.csv")),
        }.items():
            with pytest.raises(DataError, match=said) as error:
                act()
            assert "\n" not in str(error.value) and "testing" not in str(error.value)
    finally:
        ask_who_it_is(endpoint, False)


def ask_who_it_is(place: str, strictly: bool) -> None:
    """Whether the server refuses keys that it does not know."""
    data, headers = (b"0" if strictly else b"inf"), {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"http://{place}/moto-api/reset-auth", data=data, method="POST", headers=headers)).close()
