"""Which library grows trees: LightGBM where it is installed and loads, else scikit-learn, and one line where it does not load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ctr_kd.baselines.boosted_trees import BoostedTrees
from ctr_kd.baselines.tree_libraries import TreeSettings, import_library, installed_library


@pytest.fixture(autouse=True)
def asked_anew():
    installed_library.cache_clear()
    yield
    installed_library.cache_clear()


def test_lightgbm_where_it_is_installed():
    pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install lightgbm", exc_type=(ImportError, OSError))
    assert installed_library() == ("lightgbm", None)


def test_scikit_learn_where_it_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installed_library() == ("scikit-learn", None)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed LightGBM whose binary does not load, as where libgomp is missing."""
    (tmp_path / "lightgbm" / "lib").mkdir(parents=True)
    (tmp_path / "lightgbm" / "__init__.py").touch()
    (tmp_path / "lightgbm" / "lib" / "lib_lightgbm.so").write_text("no binary", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def test_one_that_does_not_load_counts_as_not_installed(broken: None):
    name, trouble = installed_library()
    assert name == "scikit-learn"
    assert trouble is not None and "\n" not in trouble
    assert trouble.startswith("lightgbm is installed but does not load (") and trouble.endswith("so scikit-learn grows the trees")


def test_that_is_said_once_in_one_line(broken: None):
    said: list[str] = []
    columns, label = {"clicks": np.repeat([0.0, 5.0], 20)}, np.repeat([0, 1], 20)
    model = BoostedTrees.fit(columns, label, columns, label, numeric=["clicks"], report=said.append)
    assert model.library == "scikit-learn"
    assert [line.split(" (")[0] for line in said] == ["lightgbm is installed but does not load", "boosted trees"]


def test_what_grows_trees_is_imported_beforehand(broken: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "sklearn.ensemble", raising=False)
    import_library()
    assert "sklearn.ensemble" in sys.modules and "lightgbm" not in sys.modules


def test_what_cannot_be_imported_beforehand_is_said_by_whoever_needs_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("lightgbm", "sklearn.ensemble"):
        monkeypatch.setitem(sys.modules, name, None)
    import_library()


def test_small_logs_get_small_trees():
    small, large = TreeSettings.for_rows(300), TreeSettings.for_rows(2_000_000)
    assert (small.leaves, small.leaf_rows) == (31, 3)
    assert (large.leaves, large.leaf_rows) == (127, 200)
