"""Loading a student: from a folder whose code is this release's, or through whoever knows its place."""

from __future__ import annotations

import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest

from ctr_kd import Student, distill, load_student
from ctr_kd.frames import student as module
from feature_store.tables.contracts import DataError
from tests.ctr_kd.frames.rows import rows


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "student"
    return distill(rows(500, 0), "logit", rows(200, 1), alone=False, settings={"training": {"epochs": 1}}).export(folder)


def test_rows_are_scored_and_their_index_is_kept(exported: Path) -> None:
    frame = rows(30, 2).set_index(pd.Index(range(100, 130)))
    found = load_student(str(exported)).predict(frame)
    assert found.columns.tolist() == ["score"] and found.index.equals(frame.index) and found["score"].between(0, 1).all()
    with pytest.raises(DataError, match="column history is missing"):
        load_student(exported).predict(frame.drop(columns="history"))


def test_code_of_others_is_not_run(exported: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("casting.py", "more.py"):
        folder = shutil.copytree(exported, tmp_path / name)
        code = (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else ""
        (folder / name).write_text(f"{code}\nopen({str(ran)!r}, 'w')\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"{name} is not the code of this release, and no registry vouches for it: it is not run"):
            load_student(folder)
    assert not ran.exists()


def test_places_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder; name a folder with signature.json or MLmodel"):
        load_student(tmp_path / "none")
    with pytest.raises(DataError, match="holds no exported student"):
        load_student(tmp_path)
    (tmp_path / "signature.json").write_text("{}")
    with pytest.raises(DataError, match="holds no whole student"):
        load_student(tmp_path)


def test_whoever_knows_a_scheme_loads_from_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, object]] = []

    def load(place: str, registry: object) -> Student:
        asked.append((place, registry))
        return Student(None, place)

    def points(group: str, name: str | None = None) -> list[EntryPoint]:
        known = [EntryPoint(scheme, f"{__name__}:load", group) for scheme in ("models", "file")]
        return [one for one in known if name in (None, one.name)]

    monkeypatch.setattr(module, "entry_points", points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: load)
    assert load_student("models:/a@champion", registry="there").place == "models:/a@champion"
    (tmp_path / "MLmodel").touch()
    assert load_student(tmp_path).place == str(tmp_path)
    assert asked == [("models:/a@champion", "there"), (str(tmp_path), None)]
    with pytest.raises(DataError, match=r"no installed package loads students from s3: \(known: file, models\)"):
        load_student("s3://bucket/a")
