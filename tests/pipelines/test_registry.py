"""The registered student: saved without torch or pickle, checked by digest, moved by alias."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines import registry as module
from pipelines.artifacts import ArtifactError
from pipelines.registry import CHALLENGER, CHAMPION, Registry, has_version, load_scorer, peek, save_model, verify_model
from pipelines.tracking import TrackingError

LOGITS = [2.0, 1.0, 0.0, -2.0]


def example() -> pd.DataFrame:
    times = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (1, 2)]
    return pd.DataFrame(
        {"history": [[10, 11], []], "item_id": [10, 13], "timestamp": times, "item_age": [3.0, None], "device": ["phone", None]}
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_export: Callable[[Path, list[float]], None]) -> Path:
    root = tmp_path_factory.mktemp("model")
    make_export(root / "export", LOGITS)
    save_model(root / "export", root / "model", {"data": {"digest": "ab"}, "code_revision": None}, example())
    return root / "model"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, model: Path, mlflow_database: Path) -> tuple[str, Registry]:
    """A registry with two versions of the model ``demo``."""
    workspace = tmp_path_factory.mktemp("registry")
    shutil.copyfile(mlflow_database, workspace / "mlflow.db")
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    registry = Registry(uri, "demo")
    experiment = registry.client.create_experiment("demo", artifact_location=(workspace / "mlartifacts").as_uri())
    for number in (1, 2):
        run = registry.client.create_run(experiment).info.run_id
        assert registry.register(run, model, "model", {"student_digest": f"digest {number}"}) == str(number)
    return uri, registry


def test_the_model_holds_what_production_needs_and_no_pickle(model: Path) -> None:
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"MLmodel", "requirements.txt", "code/student_scorer.py", "data/student/student.onnx", "data/student/lineage.json"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pickle"))]
    requirements = (model / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements
    assert "torch" not in requirements
    assert "ctr" not in requirements
    assert verify_model(model)["data"] == {"digest": "ab"}


def test_mlflow_serves_it_without_torch_or_this_project(model: Path, tmp_path: Path) -> None:
    """In a fresh process, outside the project's folder."""
    code = """
import json, sys
import pandas as pd
from mlflow import pyfunc
frame = pd.DataFrame({"history": [[10, 11], []], "item_id": [10, 999], "timestamp": pd.to_datetime(["2024-01-01", "2024-01-02"])})
print(json.dumps(pyfunc.load_model(sys.argv[1]).predict(frame)["score"].tolist()))
assert not {"torch", "ctr_kd", "pipelines", "feature_store"} & set(sys.modules), "too much was imported"
"""
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), 1 / (1 + np.exp([-2.0, 1.0])), atol=1e-6)


@pytest.mark.parametrize(
    "columns",
    [
        {"item_id": ["10", "13"]},
        {"timestamp": pd.to_datetime(["2024-01-01", "2024-01-02"])},
        {"item_age": [1, 2]},
        {"item_age": [None, None]},
        {"device": [None, None]},
        {"history": [None, [10, None]]},
        {"history": [np.array([10, 11]), np.array([], np.int64)]},
        {"history_timestamps": [[datetime(2024, 1, 1, tzinfo=UTC)] * 2, []]},
        {"other": [1, 2]},
    ],
    ids=lambda columns: f"{next(iter(columns))}",
)
def test_frames_as_people_have_them_are_scored(model: Path, columns: dict) -> None:
    from mlflow import pyfunc

    scores = pyfunc.load_model(str(model)).predict(example().assign(**columns))["score"]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-2.0, 2.0])), atol=1e-6)


@pytest.mark.parametrize("column", ["history", "item_id", "timestamp"])
def test_a_missing_required_column_is_named(model: Path, column: str) -> None:
    from mlflow import pyfunc

    with pytest.raises(Exception, match=column):
        pyfunc.load_model(str(model)).predict(example().drop(columns=column))


def test_the_scorer_inside_takes_arrow_tables(model: Path) -> None:
    table = pa.table({"history": [[10], []], "item_id": [11, 12], "timestamp": [datetime(2024, 1, 1)] * 2})
    np.testing.assert_allclose(load_scorer(model).score(table), 1 / (1 + np.exp([-1.0, 0.0])), atol=1e-6)


def test_the_student_is_known_by_its_bytes(tmp_path: Path, make_export: Callable[[Path, list[float]], None]) -> None:
    make_export(tmp_path / "one", LOGITS)
    make_export(tmp_path / "two", [2.0, 1.0, 0.0, -2.5])
    digests = [save_model(tmp_path / name, tmp_path / "out" / "model", {}, example()) for name in ("one", "one", "two")]
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_byte_is_found(served: tuple[str, Registry], tmp_path: Path) -> None:
    _, registry = served
    path = registry.download("models:/demo/2")
    file = path / "data" / "student" / "signature.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"24", b"25"))
    try:
        with pytest.raises(ArtifactError, match=r"signature.json does not match its digest"):
            registry.download("models:/demo/2")
    finally:
        file.write_bytes(content)


def test_versions_are_found_by_student(served: tuple[str, Registry]) -> None:
    uri, registry = served
    assert registry.version_of("digest 1") == "1"
    assert registry.version_of("digest 9") is None
    assert has_version(uri, "demo", "2")
    assert not has_version(uri, "demo", "3")
    assert registry.alias(CHALLENGER) == peek(uri, "demo", CHALLENGER) == "2"


def test_champions_come_and_go(served: tuple[str, Registry]) -> None:
    uri, registry = served
    assert registry.alias(CHAMPION) is peek(uri, "demo", CHAMPION) is None
    with pytest.raises(TrackingError, match="demo has no champion"):
        registry.rollback()
    assert registry.promote("1") == (None, "1")
    assert registry.promote("2") == ("1", "2")
    assert registry.promote("2") == ("2", "2")  # as after a kill between its two steps
    assert peek(uri, "demo", CHAMPION) == "2"
    assert registry.rollback() == ("2", "1")
    with pytest.raises(TrackingError, match="no earlier champion"):
        registry.rollback()
    registry.client.set_registered_model_alias("demo", CHAMPION, "2")  # by other means
    assert registry.rollback() == ("2", "1")
    assert peek(uri, "demo", CHAMPION) == "1"


@pytest.mark.parametrize("uri", ["demo/99", "demo@nobody", "absent/1", "absent@champion", "demo"])
def test_what_the_registry_does_not_have_is_named(served: tuple[str, Registry], uri: str) -> None:
    with pytest.raises(TrackingError, match=f"has no model models:/{uri};"):
        served[1].download(f"models:/{uri}")


def test_a_model_that_was_never_registered_has_no_champion_to_go_back_from(served: tuple[str, Registry]) -> None:
    with pytest.raises(TrackingError, match="absent has no champion"):
        Registry(served[0], "absent").rollback()


def test_a_place_without_a_model_is_named(served: tuple[str, Registry], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the files of .*nowhere cannot be read .*; check --model"):
        served[1].download(str(tmp_path / "nowhere"))


def test_peeking_needs_no_database(tmp_path: Path) -> None:
    assert peek(f"sqlite:///{tmp_path / 'absent.db'}", "demo", CHAMPION) is None


def test_a_registry_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as error:
        Registry("http://127.0.0.1:9", "demo")
    assert "MLflow at http://127.0.0.1:9 cannot be used" in str(error.value)
    assert "\n" not in str(error.value)


def test_another_mlflows_tables_are_asked_through_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.db").write_bytes(b"")
    asked = []
    monkeypatch.setattr(module, "connect", lambda uri: asked.append(uri))
    monkeypatch.setattr(module, "_alias", lambda client, uri, name, alias: "7")
    assert peek(f"sqlite:///{tmp_path / 'other.db'}", "demo", CHAMPION) == "7"
    assert len(asked) == 1
