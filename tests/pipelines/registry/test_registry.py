"""The registered student: saved without torch or pickle, checked by digest, moved by alias."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_store.tables.files import UnsafeFile
from pipelines.errors import ConfigError
from pipelines.exit_codes import exit_code
from pipelines.registry.alias_history import Change, HistoryDamaged, breaks_in, tag_of
from pipelines.registry.lineage import Contents, DataLineage, Lineage
from pipelines.registry.lookup import alias_version, champion_changes, has_version
from pipelines.registry.model_package import lineage_of, load_scorer, save_model, seal, seal_of, verify_model
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.tracking.client import TrackingError, connect, lock_of, sqlite_file, sqlite_uri
from pipelines.workspace.artifacts import ArtifactError
from tests.programs import HANGS, Program

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
    save_model(root / "export", root / "model", Lineage.from_json({"data": {"digest": "ab"}, "code_revision": None}), example())
    return root / "model"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, model: Path, mlflow_database: Path) -> Path:
    """Database of a registry with two versions of the model ``demo``."""
    workspace = tmp_path_factory.mktemp("registry")
    shutil.copyfile(mlflow_database, workspace / "mlflow.db")
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    registry = Registry(uri, "demo")
    experiment = registry.client.create_experiment("demo", artifact_location=(workspace / "mlartifacts").as_uri())
    for number in (1, 2):
        run = registry.client.create_run(experiment).info.run_id
        assert registry.register(run, model, "model", {"student_digest": f"digest {number}"}) == str(number)
    return workspace / "mlflow.db"


@pytest.fixture
def served(registered: Path, tmp_path: Path) -> tuple[str, Registry]:
    """A registry of each test's own: aliases that one moves are where they were for the next."""
    uri = f"sqlite:///{shutil.copyfile(registered, tmp_path / 'registry.db')}"
    return uri, Registry(uri, "demo")


def test_the_model_holds_what_production_needs_and_no_pickle(model: Path) -> None:
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"MLmodel", "requirements.txt", "code/student_scorer.py", "data/student/student.onnx", "data/student/lineage.json"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pickle"))]
    requirements = (model / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements
    assert "torch" not in requirements
    assert "ctr" not in requirements
    verify_model(model, seal_of(model))
    assert lineage_of(model).data == DataLineage(digest="ab")


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
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), 1 / (1 + np.exp([-2.0, 1.0])), atol=1e-6)


def test_a_process_that_loaded_it_ends_without_a_word(model: Path, tmp_path: Path) -> None:
    """A library that finds its objects alive at the very end says so on standard error, after the line that a command ended with."""
    code = "import sys, duckdb; from mlflow import pyfunc; pyfunc.load_model(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=HANGS
    )
    assert (done.returncode, "leaked" in done.stderr) == (0, False), done.stderr


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


def test_two_models_in_one_process_have_each_its_own_code(
    model: Path, tmp_path: Path, make_export: Callable[[Path, list[float]], None]
) -> None:
    """A news ranker and a classifier of texts, or the students of two releases."""
    from mlflow import pyfunc

    make_export(tmp_path / "export", LOGITS)
    with open(tmp_path / "export" / "scorer.py", "a", encoding="utf-8") as code:
        code.write("\n\ndef _other(self, frame):\n    return pd.DataFrame({'score': [0.125] * len(frame)})\n\n\nSCORER.predict = _other\n")
    save_model(tmp_path / "export", tmp_path / "model", Lineage(), example())
    first, second = pyfunc.load_model(str(model)), pyfunc.load_model(str(tmp_path / "model"))
    answers = [loaded.predict(example())["score"].tolist() for loaded in (first, second, first)]
    assert answers[0] == answers[2] != answers[1] == [0.125] * len(example())


@pytest.mark.parametrize(("release", "name"), [("0_1", "StudentScorer"), ("0_2", "ClickScorer")])
def test_a_student_of_a_release_before_still_loads_and_scores(
    model: Path, tmp_path: Path, make_export: Callable[[Path, list[float]], None], release: str, name: str
) -> None:
    """Its scorer names class and error otherwise, or needs no casting.py: registered then, or exported then and registered now."""
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException

    make_export(tmp_path / "export", LOGITS)
    shutil.copyfile(Path(__file__).with_name(f"click_scorer_{release}.txt"), tmp_path / "export" / "scorer.py")
    (tmp_path / "export" / "casting.py").unlink()
    save_model(tmp_path / "export", tmp_path / "model", Lineage(), example())
    expected = load_scorer(model).predict(example())["score"]
    old, served = load_scorer(tmp_path / "model"), pyfunc.load_model(str(tmp_path / "model"))
    assert type(old).__name__ == name
    np.testing.assert_array_equal(old.predict(example())["score"], expected)
    np.testing.assert_array_equal(served.predict(example())["score"], expected)
    with pytest.raises(MlflowException, match="column item_age must be numeric"):
        served.predict(example().assign(item_age="old"))


def test_the_student_is_known_by_its_bytes(tmp_path: Path, make_export: Callable[[Path, list[float]], None]) -> None:
    make_export(tmp_path / "one", LOGITS)
    make_export(tmp_path / "two", [2.0, 1.0, 0.0, -2.5])
    digests = [save_model(tmp_path / name, tmp_path / "out" / "model", Lineage(), example()) for name in ("one", "one", "two")]
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


def test_the_lineage_is_covered_by_the_registrys_digest(served: tuple[str, Registry]) -> None:
    """Also where the list of digests is changed with it."""
    _, registry = served
    path = registry.download("models:/demo/1")
    before = {name: (path / name).read_bytes() for name in ("contents.json", "data/student/lineage.json")}
    (path / "data/student/lineage.json").write_text('{"data": {"digest": "forged"}}')
    try:
        with pytest.raises(ArtifactError, match=r"lineage.json does not match its digest in contents.json"):
            registry.download("models:/demo/1")
        seal(path)
        with pytest.raises(ArtifactError, match=r"contents.json does not match its digest in the registry"):
            registry.download("models:/demo/1")
    finally:
        for name, content in before.items():
            (path / name).write_bytes(content)


class Bomb:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A model in a folder from elsewhere."""
    return Path(shutil.copytree(model, tmp_path / "elsewhere"))


@pytest.mark.parametrize("name", ["python_model.pkl", "data/student/innocent.json"])
def test_a_pickle_in_a_model_is_refused(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name as by its bytes, also where whoever put it there listed it."""
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    seal(folder)
    with pytest.raises(ArtifactError, match=f"{name} is a pickle, which runs code"):
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", "demo").download(str(folder))
    assert not (tmp_path / "exploded").exists()


def test_what_does_not_belong_to_a_model_is_refused(folder: Path) -> None:
    (folder / "more.txt").write_text("more")
    with pytest.raises(ArtifactError, match=r"more.txt does not belong to the model"):
        verify_model(folder, None)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", ["code", "code/student_scorer.py", "data/student/student.onnx", "MLmodel", "contents.json"])
def test_a_link_in_a_model_is_refused_and_not_followed(folder: Path, name: str, listed: bool) -> None:
    """Whether its list names what lies there or not: a link to a folder hides the code behind it from who walks through the folder."""
    foreign = folder.parent / "foreign"
    (folder / name).rename(foreign)
    (folder / name).symlink_to(foreign)
    if not listed and name == "code":
        contents = Contents.read(folder)
        kept = {one: digest for one, digest in contents.files.items() if not one.startswith("code/")}
        Contents(files=kept).write(folder)
        (foreign / "student_scorer.py").write_text("raise SystemExit('foreign code ran')")
    with pytest.raises(ArtifactError, match=re.escape(f"{folder / name} is a link")):
        Registry(f"sqlite:///{folder.parent / 'mlflow.db'}", "demo").download(str(folder))


@pytest.mark.parametrize("name", ["data/student/more", "contents.json", "code/__pycache__"])
def test_a_pipe_in_a_model_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ArtifactError, match=re.escape(f"{folder / name} is a pipe")):
        verify_model(folder, None)


def test_code_that_nobody_vouches_for_is_not_run(folder: Path) -> None:
    verify_model(folder, None)  # this release's
    scorer = folder / "code" / "student_scorer.py"
    scorer.write_text(scorer.read_text() + "\nraise SystemExit\n")
    seal(folder)
    verify_model(folder, seal_of(folder))  # a registry says that this is what was registered
    with pytest.raises(ArtifactError, match=r"student_scorer.py is not the code of this release"):
        verify_model(folder, None)


def test_bytecode_beside_the_code_is_not_run(folder: Path) -> None:
    cache = folder / "code" / "__pycache__"
    cache.mkdir(exist_ok=True)  # Python may have made it
    source = folder / "code" / "student_scorer.py"
    compiled = compile("raise SystemExit", str(source), "exec")
    stamp = source.stat()
    content = importlib._bootstrap_external._code_to_timestamp_pyc(compiled, int(stamp.st_mtime), stamp.st_size)
    (cache / f"student_scorer.{sys.implementation.cache_tag}.pyc").write_bytes(content)
    load_scorer(folder)
    verify_model(folder, seal_of(folder))
    assert not cache.exists()


def test_loading_a_student_leaves_its_folder_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Python keeps what it compiles: an artifact with a file that is not its own is refused."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load_scorer(folder)
    assert not list((folder / "data").rglob("__pycache__"))


def test_versions_are_found_by_student(served: tuple[str, Registry]) -> None:
    uri, registry = served
    assert registry.version_of("digest 1") == "1"
    assert registry.version_of("digest 9") is None
    assert registry.client.get_model_version("demo", "1").tags["model_digest"] == seal_of(registry.download("models:/demo/1"))
    assert has_version(uri, "demo", "2")
    assert not has_version(uri, "demo", "3")
    assert registry.alias(CHALLENGER) == alias_version(uri, "demo", CHALLENGER) == "2"


def test_champions_come_and_go(served: tuple[str, Registry]) -> None:
    uri, registry = served
    assert registry.alias(CHAMPION) is alias_version(uri, "demo", CHAMPION) is None
    with pytest.raises(TrackingError, match="demo has no champion"):
        registry.rollback()
    assert registry.promote("1") == (None, "1")
    assert registry.promote("2") == ("1", "2")
    assert registry.promote("2") == ("2", "2")  # as after a kill between its two steps
    assert alias_version(uri, "demo", CHAMPION) == "2"
    assert registry.rollback() == ("2", "1")
    with pytest.raises(TrackingError, match="no earlier champion"):
        registry.rollback()
    registry.client.set_registered_model_alias("demo", CHAMPION, "2")  # by other means
    assert registry.rollback("it was the wrong one") == ("2", "1")
    assert alias_version(uri, "demo", CHAMPION) == "1"
    changes = champion_changes(uri, "demo")
    assert changes == registry.changes()
    assert [(change.how, change.before, change.after) for change in changes] == [
        ("promote", None, "1"),
        ("promote", "1", "2"),
        ("rollback", "2", "1"),
        ("rollback", "2", "1"),
    ]
    assert changes[-1].why == "it was the wrong one"


def test_a_change_that_a_kill_cut_short_is_made_again_and_noted_once(served: tuple[str, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    _, registry = served
    registry.promote("1")
    before = registry.changes()

    def killed(*arguments: str) -> None:
        raise GeneratorExit

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "set_registered_model_alias", killed)
        with pytest.raises(GeneratorExit):
            registry.promote("2")
    assert registry.alias(CHAMPION) == "1"
    registry.promote("2")
    assert registry.alias(CHAMPION) == "2"
    assert len(registry.changes()) == len(before) + 1


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("demo/99", "demo has no version 99; its versions are 1, 2"),
        ("demo/newest", "demo has no version newest; its versions are 1, 2"),
        ("demo@champoin", r"demo has no alias champoin; its aliases are challenger \(version 2\), first \(version 1\)"),
        ("dmeo/1", "MLflow at sqlite.* has no registered model dmeo; it has demo"),
        ("de'mo@champion", "MLflow at sqlite.* has no registered model de'mo; it has demo"),
        ("demo", "names no model: write models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_what_the_registry_does_not_have_is_named_with_what_it_has(served: tuple[str, Registry], uri: str, expected: str) -> None:
    served[1].client.set_registered_model_alias("demo", "first", "1")
    with pytest.raises(ConfigError, match=f"^models:/{uri}:? ?{expected}"):
        served[1].download(f"models:/{uri}")


def test_a_model_that_was_never_registered_has_no_champion_to_go_back_from(served: tuple[str, Registry]) -> None:
    with pytest.raises(TrackingError, match="absent has no champion"):
        Registry(served[0], "absent").rollback()


def test_a_place_without_a_model_is_named(served: tuple[str, Registry], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such folder; a registered model is models:/NAME@ALIAS"):
        served[1].download(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"^runs:/0123/model: no run of that id"):
        served[1].download("runs:/0123/model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError):
        served[1].download(str(tmp_path / "empty"))


def test_files_that_a_server_does_not_give_may_come_later(served: tuple[str, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler tries again where a server keeps the files; where they lay on this machine they are lost."""
    registry = served[1]
    for place, code in (("mlflow-artifacts:/1/model", 1), ("file:///nowhere/model", 3)):
        monkeypatch.setattr(registry, "_place_of", lambda uri, place=place: (place, None))
        with pytest.raises(ArtifactError, match="the files of models:/demo/1 cannot be read") as error:
            registry.download("models:/demo/1")
        assert exit_code(error.value) == code


def test_a_registry_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as error:
        Registry("http://127.0.0.1:9", "demo")
    assert "MLflow at http://127.0.0.1:9 cannot be used" in str(error.value)
    assert "\n" not in str(error.value)


def test_two_workspaces_that_promote_at_once_lose_no_entry_of_the_history(served: tuple[str, Registry]) -> None:
    """On one registry in a file, in processes of their own: every change is noted once, and each follows from the one before it."""
    uri, registry = served
    programs = [Program(uri, "demo", who, "8", module="tests.pipelines.registry.promoting_program") for who in ("one", "other")]
    ended = [program.end() for program in programs]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    changes = registry.changes()
    assert sorted(change.why for change in changes) == sorted(line for one in ended for line in one.out.splitlines())
    assert breaks_in(changes, registry.alias(CHAMPION)) == [] and len(changes) >= 8


def test_a_link_in_the_place_of_the_lock_is_not_written_through(served: tuple[str, Registry], tmp_path: Path) -> None:
    uri, registry = served
    database = sqlite_file(uri)
    assert database is not None
    (tmp_path / "precious").write_text("x")
    for file in (database, tmp_path / "new" / "mlflow.db"):
        file.parent.mkdir(exist_ok=True)
        lock_of(file).unlink(missing_ok=True)
        lock_of(file).symlink_to(tmp_path / "precious")
    for write in (lambda: registry.promote("1"), registry.rollback, lambda: connect(sqlite_uri(tmp_path / "new" / "mlflow.db"))):
        with pytest.raises(UnsafeFile, match=r"db.lock is a link; remove it"):
            write()
    assert (tmp_path / "precious").read_text() == "x"


def test_changes_that_were_made_at_once_are_all_kept_and_said(served: tuple[str, Registry]) -> None:
    """Where a server keeps the registry there is no lock: both read the same champion and the same number."""
    uri, registry = served
    registry.promote("1")
    for version in ("2", "3"):
        registry.client.set_registered_model_tag("demo", *tag_of(Change("promote", "1", version), 1))
    assert [change.after for change in registry.changes()] == ["1", "2", "3"] == [change.after for change in champion_changes(uri, "demo")]
    assert breaks_in(registry.changes(), "3") == ["version 3 is noted to have replaced 1 when 2 was champion"]
    registry.client.set_registered_model_tag("demo", "champion.000009.x", "no change")
    for ask in (registry.changes, lambda: champion_changes(uri, "demo")):
        with pytest.raises(HistoryDamaged, match=r"tag champion.000009.x is no change of a champion"):
            ask()
