"""The registered student behind HTTP, for real: `mlflow models serve` on loopback, and a load with nothing but its own requirements."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_package import load_scorer, save_model, seal_of, verify_model
from pipelines.registry.pyfunc_model import PyfuncStudent
from pipelines.tasks.click_rows import ClickRows
from tests.memory import peak_memory
from tests.programs import HANGS
from tests.servers import Server, scoring_server

INSTALLS = "CTR_KD_TEST_SERVING"


class World:
    """A `pooled` student of the small assembly, saved as it is registered."""

    def __init__(self, root: Path, make_assembly: Any) -> None:
        make_assembly(root / "assembly")
        assembly = Assembly(root / "assembly", 5)
        signature = assembly.signature()
        torch.manual_seed(0)
        export_student(STUDENTS["pooled"](signature, StudentConfig(kind="pooled", width=8)).eval(), signature, assembly, root / "export")
        self.raw_rows, self.model = ClickRows(root / "assembly"), root / "model"
        self.rows = self.raw_rows.read("test")
        self.raw = self.raw_rows.raw(self.rows)
        save_model(root / "export", self.model, Lineage(), self.raw.slice(0, 3).to_pandas())

    def batch_scores(self, table: pa.Table) -> np.ndarray:
        return load_scorer(self.model).score(table)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, make_assembly: Any) -> World:
    return World(tmp_path_factory.mktemp("serving"), make_assembly)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    found = scoring_server(world.model)
    found.start()
    yield found
    found.kill()


def ask(server: Server, body: Any, kind: str = "application/json") -> requests.Response:
    data = body if isinstance(body, str) else json.dumps(body)
    return requests.post(f"{server.uri}/invocations", data=data, headers={"Content-Type": kind}, timeout=60)


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as a caller writes them in JSON: raw ids, times as text, null for what is unknown."""
    return json.loads(json.dumps(table.to_pylist(), default=lambda value: value.isoformat()))


def scores_of(answer: requests.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [row["score"] for row in answer.json()["predictions"]]


def test_requests_of_raw_ids_are_answered_as_batches_are_scored(server: Server, world: World) -> None:
    expected = world.batch_scores(world.raw)
    assert expected.std() > 1e-4
    rows = records(world.raw)
    np.testing.assert_allclose(scores_of(ask(server, {"dataframe_records": rows})), expected, atol=1e-6)
    columns = list(rows[0])
    split = {"columns": columns, "data": [[row[name] for name in columns] for row in rows[:7]]}
    np.testing.assert_allclose(scores_of(ask(server, {"dataframe_split": split})), expected[:7], atol=1e-6)
    np.testing.assert_allclose([scores_of(ask(server, {"dataframe_records": [row]}))[0] for row in rows[:5]], expected[:5], atol=1e-6)
    stranger = {"history": [], "item_id": "nobody knows it", "timestamp": "2024-01-01T00:00:00"}
    assert 0 < scores_of(ask(server, {"dataframe_records": [stranger]}))[0] < 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": None}, "item_id"),
        ({"history": None}, "history"),
        ({"history": "10"}, "column history must hold lists, not str"),
        ({"item_id": 1.5}, "column item_id must hold text or integer ids"),
        ({"item_id": {"a": 1}}, "item_id"),
        ({"item_id": [1, 2], "item_age": [3.0]}, "column item_age has 1 values for the 2 candidates of a row"),
        ({"item_id": [1, 2.5]}, "item_id"),
        ({"history": [[10]]}, "column history must hold"),
        ({"item_age": "old"}, "column item_age must hold numbers, not 'old'"),
        ({"item_age": float("inf")}, "column item_age must hold numbers, not inf"),
        ({"history_timestamps": ["yesterday"]}, "column history_timestamps must hold times since 1990, not 'yesterday'"),
        ({"history_timestamps": [1], "timestamp": 1704067200}, "column history_timestamps must hold times since 1990, not 1"),
        ({"history_timestamps": [1, 2, 3]}, "history_timestamps must have one time for every item"),
    ],
    ids=str,
)
def test_a_bad_request_is_refused_with_the_reason(server: Server, change: dict[str, Any], reason: str) -> None:
    """A None here is a column that is missing."""
    row = {"history": [10], "item_id": 11, "timestamp": "2024-01-01T00:00:00"} | change
    answer = ask(server, {"dataframe_records": [{name: value for name, value in row.items() if value is not None}]})
    assert 400 <= answer.status_code < 500
    assert reason in answer.json()["message"]
    assert "Traceback" not in answer.text


def as_requests(table: pa.Table, count: int) -> list[dict[str, Any]]:
    """Rows of so many requests, with the candidates' columns as lists."""
    rows, size = records(table), table.num_rows // count
    parts = [rows[begin : begin + size] for begin in range(0, size * count, size)]
    shared = ("history", "history_timestamps", "timestamp", "user_id")
    return [{name: part[0][name] if name in shared else [row[name] for row in part] for name in part[0]} for part in parts]


def test_a_row_may_be_a_request_with_its_candidates(server: Server, world: World) -> None:
    """One history is sent once, whatever the number of candidates; requests of several lengths may go together."""
    request = world.raw_rows.request(world.rows, 100)
    bodies = [*as_requests(request, 1), *as_requests(request.slice(0, 3), 1)]
    bodies.append(bodies[1] | {name: value[:0] for name, value in bodies[1].items() if isinstance(value, list) and "history" not in name})
    expected = world.batch_scores(request)
    found = scores_of(ask(server, {"dataframe_records": bodies}))
    assert [len(scores) for scores in found] == [100, 3, 0]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[:3], atol=1e-6)
    # Context that is of the request, and not of the candidate, need not be a list.
    one, each = ([bodies[1] | {"device": device}] for device in ("phone", ["phone"] * 3))
    assert scores_of(ask(server, {"dataframe_records": one})) == scores_of(ask(server, {"dataframe_records": each}))


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ("history=10", "application/json", "valid JSON"),
        ("[1, 2", "application/json", "valid JSON"),
        ({"rows": []}, "application/json", "dataframe_records"),
        ("{}", "text/html", "content type"),
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(server: Server, body: Any, kind: str, reason: str) -> None:
    answer = ask(server, body, kind)
    assert 400 <= answer.status_code < 500
    assert reason.lower() in answer.text.lower()


class Counted:
    """A runtime session that notes what it is fed."""

    def __init__(self, session: Any) -> None:
        self.session, self.fed = session, []  # type: ignore[var-annotated]

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> Any:
        self.fed.append(inputs)
        return self.session.run(names, inputs)


def test_one_history_with_a_hundred_candidates_is_encoded_once(world: World) -> None:
    request = world.raw_rows.request(world.rows, 100)
    scorer = load_scorer(world.model)
    expected = np.concatenate([scorer.score(request.slice(i, 1)) for i in range(100)])
    scorer.session = counted = Counted(scorer.session)
    np.testing.assert_allclose(scorer.predict(request.to_pandas())["score"], expected, atol=1e-6)
    assert len(counted.fed) == 1
    assert len(counted.fed[0].get("history", counted.fed[0].get("clicks"))) == 1
    assert counted.fed[0]["segment_of_row"].tolist() == [0] * 100


@pytest.fixture(scope="module")
def student(world: World) -> PyfuncStudent:
    return PyfuncStudent(str(world.model / "data" / "student"))


def large_request(clicks: int, candidates: int) -> dict[str, Any]:
    return {
        "history": [10 + click % 7 for click in range(clicks)],
        "history_timestamps": [1_704_067_200_000_000 + click * 1_000_000 for click in range(clicks)],
        "item_id": [10 + one % 9 for one in range(candidates)],
        "timestamp": "2024-01-01T00:00:00",
        "device": "phone",
    }


def test_a_long_history_with_many_candidates_costs_what_the_model_reads_of_it(student: PyfuncStudent) -> None:
    """2,000 clicks times 10,000 candidates would be gigabytes; so would a long text of the request, once for each candidate."""
    request = pd.DataFrame([large_request(2000, 10_000) | {"device": "x" * 1_000_000}])
    newest = {name: large_request(2000, 9)[name][-5:] for name in ("history", "history_timestamps")}  # 5 is the length of the assembly
    expected = student.predict(pd.DataFrame([large_request(5, 9) | newest | {"device": "x"}]))["score"][0]
    before = peak_memory(reset=True)
    scores = student.predict(request)["score"][0]
    assert peak_memory() - before < 64 << 20
    np.testing.assert_allclose(scores, np.resize(expected, 10_000), atol=1e-6)


def test_an_earlier_releases_scorer_is_given_no_more_than_it_reads(student: PyfuncStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    request = pd.DataFrame([large_request(2000, 10), large_request(3, 2), large_request(0, 1)])
    expected = student.predict(request)["score"].tolist()
    taken: list[int] = []
    score = student.scorer.score
    monkeypatch.delattr(type(student.scorer), "score_requests")
    monkeypatch.setattr(student.scorer, "score", lambda table: (taken.append(pc.list_value_length(table["history"]))) or score(table))
    found = student.predict(request)["score"].tolist()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert taken[0].to_pylist() == [5] * 10 + [3] * 2 + [0]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (large_request(3, 10_001), "column item_id lists 10,001 candidates in a row, and at most 10,000 are taken"),
        (large_request(100_001, 1), "column history lists 100,001 clicks in a row, and at most 100,000 are taken"),
        (large_request(3, 1) | {"item_age": [10**400]}, "column item_age must hold numbers"),
        (large_request(3, 1) | {"timestamp": 10**40}, "column timestamp must hold times"),
    ],
    ids=["candidates", "clicks", "statistic", "time"],
)
def test_a_request_beyond_a_bound_is_refused_with_the_bound(student: PyfuncStudent, request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(MlflowException, match=re.escape(reason)) as caught:
        student.predict(pd.DataFrame([request_]))
    assert caught.value.get_http_status_code() == 400


@pytest.mark.skipif(not os.environ.get(INSTALLS), reason=f"installs packages from a registry: `make test-serving` sets {INSTALLS}")
def test_the_model_loads_with_nothing_but_its_own_requirements(world: World, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", world.model / "requirements.txt"]
    subprocess.run(install, check=True, timeout=HANGS)
    code = """
import importlib.util, json, sys
import pandas as pd
from mlflow import pyfunc
frame = pd.read_parquet(sys.argv[2])
print(json.dumps(pyfunc.load_model(sys.argv[1]).predict(frame)["score"].tolist()))
assert not [name for name in ("torch", "ctr_kd", "pipelines", "feature_store") if importlib.util.find_spec(name)]
"""
    pq.write_table(world.raw, tmp_path / "rows.parquet")
    command = [python, "-c", code, world.model, tmp_path / "rows.parquet"]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which may lead to this project
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=alone, check=False, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), world.batch_scores(world.raw), atol=1e-6)


def test_serving_changes_nothing_that_a_digest_covers(server: Server, world: World) -> None:
    """Python's bytecode apart, which is not trusted."""
    assert scores_of(ask(server, {"dataframe_records": records(world.raw.slice(0, 1))}))
    verify_model(world.model, seal_of(world.model))


def test_what_goes_wrong_within_is_no_part_of_the_answer(student: PyfuncStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would answer with a traceback, and with the paths in it."""

    def fail(frame: pd.DataFrame) -> pd.DataFrame:
        raise RuntimeError("/srv/secret/student.onnx: the lights went out")

    monkeypatch.setattr(student.scorer, "predict", fail)
    with pytest.raises(MlflowException) as caught:
        student.predict(pd.DataFrame([{"history": [], "item_id": 1, "timestamp": 1}]))
    assert caught.value.message == "the request could not be scored; the server's log says why"
    assert caught.value.get_http_status_code() == 500 and "secret" not in caught.value.serialize_as_json()


def test_a_reason_is_one_short_line_whatever_the_request_holds(student: PyfuncStudent) -> None:
    row = {"history": [], "timestamp": "2024-01-01T00:00:00", "item_age": [1], "item_id": [1, 2], "\x1b[2J\nGET /": 1}
    with pytest.raises(MlflowException) as caught:
        student.predict(pd.DataFrame([row | {"device": ["\x1b[2J\n" * 999]}]))
    assert caught.value.message.isprintable() and len(caught.value.message) < 1001
