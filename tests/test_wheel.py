"""What `python -m build` makes: a wheel that holds all that the program reads, and runs where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import feature_store
from tests.programs import ROOT

INSTALLS = "CTR_KD_TEST_WHEEL"
PACKAGES = ("feature_store", "ctr_kd", "pipelines")
READ_BY_A_BUILD = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt")
SMALL = (
    "source.simulator={users: 80, items: 60, requests: 900, days: 4, candidates: 4}",
    "pretrain.encoder={width: 16, layers: 1}",
    "pretrain.training.epochs=1",
    "finetune.training.epochs=1",
    "distill.training.epochs=1",
    "evaluate={bootstrap: 20, boosted_trees: false}",
    "register={auc_min: 0, calibration_error_max: 1, champion_margin: 1}",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and with the wheel that was made from it; built from a copy, to leave nothing behind."""
    pytest.importorskip("build", reason="needs the package build")
    project = tmp_path_factory.mktemp("project")
    for name in READ_BY_A_BUILD:
        shutil.copy(ROOT / name, project)
    for name in ("conf", *PACKAGES):
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", str(project)]
    done = subprocess.run(command, cwd=project.parent, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_that_the_packages_have(wheel: Path) -> None:
    """Python, SQL, templates, the marks of types and the configurations; and no test."""
    assert wheel.name == f"ctr_kd-{feature_store.__version__}-py3-none-any.whl"
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files = {path.relative_to(ROOT).as_posix() for path in found}
    configurations = {f"pipelines/conf/{path.name}" for path in (ROOT / "conf").glob("*.yaml")}
    assert configurations and "ctr_kd/py.typed" in files
    assert held == files | configurations


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        [entries] = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "Requires-Python: >=3.11" in metadata and "License-Expression: Apache-2.0" in metadata
    assert "Requires-Dist: scipy>=" in metadata and "matplotlib" not in metadata.partition("\n\n")[0]
    assert "ctr-kd = pipelines.cli.main:main" in entries


IMPORT_ALL = """
import importlib, pkgutil, ctr_kd, feature_store, pipelines
for package in (feature_store, ctr_kd, pipelines):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in ("pipelines.airflow_dag", "pipelines.__main__"):
            importlib.import_module(module.name)
print(ctr_kd.__file__)
"""


@pytest.mark.skipif(not os.environ.get(INSTALLS), reason=f"installs packages from a registry: `make test-wheel` sets {INSTALLS}")
def test_the_wheel_runs_the_pipeline_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [place / "bin" / command[0], *command[1:]], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    torch = next(line for line in pins if line.startswith("torch=="))
    for wanted in (torch, wheel):  # torch by its exact version first, as `make setup` does
        run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wanted)
    assert run("ctr-kd", "--version").strip() == feature_store.__version__
    assert Path(run("python", "-c", IMPORT_ALL).strip()).is_relative_to(place)
    said = run("ctr-kd", "run", "simulated.yaml", *(word for setting in SMALL for word in ("--set", setting)))
    assert f"simulated.yaml is no file here; read from {place}" in said
    assert (tmp_path / "workspace" / "reports" / "latest" / "report.html").is_file()
    assert list((tmp_path / "workspace" / "scores").glob("date=*/*.parquet"))
    shutil.rmtree(place)  # 2 GB, which pytest would keep
