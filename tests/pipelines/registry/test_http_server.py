"""The checked champion behind HTTP, on a port of loopback: what it answers, what it refuses, and that nothing unchecked is run."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import requests

from pipelines.config.run import describe
from pipelines.errors import ConfigError
from pipelines.registry.http_server import MOST_BYTES, answer_to, application, checked_student, listen, serve
from pipelines.registry.pyfunc_model import PyfuncStudent
from pipelines.workspace.artifacts import ArtifactError
from tests.memory import peak_memory
from tests.pipelines.served import Served, copied, probability
from tests.programs import Program

ROW = {"history": [10], "item_id": 11, "timestamp": "2024-01-01T00:00:00"}
HALF = "half \ud83d"  # of a surrogate pair, as a cut emoji has it: JSON may hold it, UTF-8 may not


@pytest.fixture(scope="module")
def student(served_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PyfuncStudent]:
    served = copied(served_template, tmp_path_factory.mktemp("http") / "workspace")
    with checked_student(served.registry(), "models:/demo@champion") as (found, _):
        yield found


@pytest.fixture(scope="module")
def uri(student: PyfuncStudent) -> str:
    listening = listen("127.0.0.1", 0)
    threading.Thread(target=serve, args=(application(student), listening), daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def ask(uri: str, body: Any, kind: str = "application/json", **more: Any) -> requests.Response:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return requests.post(f"{uri}/invocations", data=data, headers={"Content-Type": kind}, timeout=60, **more)


def test_it_answers_as_mlflows_server_does(uri: str) -> None:
    assert requests.get(f"{uri}/ping", timeout=60).status_code == 200
    found = ask(uri, {"dataframe_records": [ROW, ROW | {"item_id": 12, "more": 1}]})
    assert found.status_code == 200, found.text
    scores = [row["score"] for row in found.json()["predictions"]]
    np.testing.assert_allclose(scores, [probability(11), probability(12)], atol=1e-6)
    split = {"columns": [*ROW, "more"], "data": [[*ROW.values(), 1]], "index": [0]}
    assert ask(uri, {"dataframe_split": split}).json()["predictions"] == [{"score": scores[0]}]
    request = {"dataframe_records": [ROW | {"item_id": [11, 12]}]}
    np.testing.assert_allclose(ask(uri, request).json()["predictions"][0]["score"], scores, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        ("history=10", "application/json", 400, "no valid JSON"),
        ('{"dataframe_records": [{"item_id": ' + "9" * 5000 + "}]}", "application/json", 400, "a number of thousands of digits"),
        ("[" * 100_000, "application/json", 400, "no valid JSON"),
        (b"\xff\xfe\x00", "application/json", 400, "no valid JSON"),
        ({"rows": []}, "application/json", 400, "dataframe_records"),
        ({"dataframe_records": {"a": 1}}, "application/json", 400, "a list of objects"),
        ({"dataframe_split": {"columns": ["item_id", "item_id"], "data": []}}, "application/json", 400, "each once"),
        ({"dataframe_split": {"columns": ["item_id"], "data": [[1, 2]]}}, "application/json", 400, "as many values as there are columns"),
        ({"dataframe_split": {"columns": [["item_id"], {}], "data": [[1, 2]]}}, "application/json", 400, "column history is missing"),
        ({"dataframe_records": [{"item_id": 1}]}, "application/json", 400, "column history is missing"),
        ({"dataframe_records": [ROW | {"item_id": [1] * 10_001}]}, "application/json", 400, "at most 10,000 are taken"),
        ({"dataframe_records": [ROW | {"item_id": {"\x1b[2J": 1}}]}, "application/json", 400, "item_id"),
        (
            {"dataframe_records": [ROW | {"device": HALF}]},
            "application/json",
            400,
            "device must hold text or integer ids, not 'half \\ud83d'",
        ),
        ({"dataframe_records": [ROW | {"history": [10, HALF]}]}, "application/json", 400, "history must hold text or integer ids"),
        ("{}", "application/x-parquet", 415, "content type"),
        (b" " * (MOST_BYTES + 1), "application/json", 413, "at most 8 MiB"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_refused_says_why_in_a_line_without_a_trace(uri: str, body: Any, kind: str, status: int, reason: str) -> None:
    answer = ask(uri, body, kind)
    assert answer.status_code == status
    message = answer.json()["message"]
    assert reason in message and message.isprintable() and "/" not in message.replace("application/json", "")
    assert set(answer.json()) == {"error_code", "message"} and "Traceback" not in answer.text


@pytest.mark.parametrize("layout", ["dataframe_records", "dataframe_split"])
def test_a_student_is_asked_about_the_objects_of_the_body_as_they_are(layout: str) -> None:
    """A student of texts knows what half of a surrogate pair means."""
    rows = [{"text": HALF, "text_b": None}, {"text": "whole", "text_b": "b"}]
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}

    class Echo:
        def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
            assert set(frame.dtypes) == {np.dtype(object)}
            return frame

    body = json.dumps({layout: rows if layout == "dataframe_records" else split}).encode()
    assert json.loads(answer_to(cast(Any, Echo()), frozenset(rows[0]), body)) == {"predictions": rows}


def test_a_body_of_unknown_length_is_cut_off(uri: str) -> None:
    pieces = (b" " * (1 << 20) for _ in range(64))
    with suppress(requests.ConnectionError):  # the server may hang up before all was sent
        headers = {"Content-Type": "application/json"}
        assert requests.post(f"{uri}/invocations", data=pieces, headers=headers, timeout=60).status_code == 413
    assert requests.get(f"{uri}/ping", timeout=60).ok


def test_a_request_that_does_not_arrive_whole_gives_up_its_place(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.registry.http_server.MOST_SECONDS", 0.2)
    place = uri.removeprefix("http://")
    host, _, port = place.partition(":")
    head = f"POST /invocations HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[1, "
    with socket.create_connection((host, int(port)), timeout=60) as half:
        half.sendall(head.encode())
        answer = half.makefile("rb").read()  # ends, since the server hangs up
    assert b" 408 " in answer.splitlines()[0] and b"REQUEST_TIMEOUT" in answer
    monkeypatch.undo()
    assert ask(uri, {"dataframe_records": [ROW]}).ok


def test_a_request_costs_what_its_body_does(uri: str) -> None:
    """Not the product of a history and its candidates, of rows and the names in them, nor of a text and the candidates."""
    many = {"dataframe_records": [{**ROW, f"name {n}": n} for n in range(20_000)]}
    long = {"dataframe_records": [ROW | {"history": [10] * 100_000, "item_id": [11] * 10_000, "device": "x" * 1_000_000}]}
    for body in (many, long):
        text = json.dumps(body)
        before = peak_memory(reset=True)
        assert ask(uri, text).status_code == 200
        assert peak_memory() - before < 200 << 20


def test_what_goes_wrong_within_stays_within(uri: str, student: PyfuncStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("/srv/secret: the lights went out")

    for place, name in ((student.scorer, "predict"), (student, "predict")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            answer = ask(uri, {"dataframe_records": [ROW]})
        assert answer.status_code == 500 and "secret" not in answer.text and "Traceback" not in answer.text


def test_nothing_is_served_that_does_not_match_its_digests(served: Served) -> None:
    """Neither a changed student_server nor a changed graph is loaded, and what is changed later is not served."""
    registry = served.registry()
    model = registry.download("models:/demo@champion")
    champion = "models:/demo@champion"
    with checked_student(registry, champion) as (student, _):
        code = model / "code" / "student_scorer.py"
        code.write_text(code.read_text() + f"\nopen({str(served.workspace / 'ran')!r}, 'w')\n")
        assert len(student.predict(pd.DataFrame([ROW]))) == 1
    with pytest.raises(ArtifactError, match=r"student_scorer.py does not match its digest"), checked_student(registry, champion):
        pass
    assert not (served.workspace / "ran").exists()


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match=r"cannot be listened on .*; choose another"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match=r"nowhere.invalid:0 cannot be listened on"):
        listen("nowhere.invalid", 0)


def test_its_connections_send_at_once() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "answers on a kept connection wait for acknowledgements"


def test_the_command_serves_until_it_is_told_to_end_and_refuses_what_is_damaged(served: Served, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(describe(served.config))
    held = listen("127.0.0.1", 0)  # its number is free again in a moment
    port = held.getsockname()[1]
    held.close()
    arguments = ("serve", str(tmp_path / "demo.yaml"), "--workspace", str(served.workspace), "--port", str(port))
    program = Program(*arguments)
    while True:
        assert program.process.is_alive(), program.end().err
        try:
            if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                break
        except requests.ConnectionError:
            program.process.join(0.2)
    answer = ask(f"http://127.0.0.1:{port}", {"dataframe_records": [ROW]})
    np.testing.assert_allclose(answer.json()["predictions"][0]["score"], probability(11), atol=1e-6)
    assert program.process.pid is not None
    os.kill(program.process.pid, 15)
    ended = program.end()
    assert ended.code == 0 and f"(version 1) was checked and answers at http://127.0.0.1:{port}/invocations" in ended.out, ended.err

    graph = served.registry().download("models:/demo@champion") / "data" / "student" / "student.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    ended = Program(*arguments).end()
    assert ended.code == 3 and ended.out == "" and "student.onnx does not match its digest" in ended.err
    assert len(ended.err.splitlines()) == 1
