"""The notebooks run from the first cell to the last, in a kernel and a folder of their own, and are kept without outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 1200  # after which a cell hangs


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel, which are of the extra `test`")
    pytest.importorskip("ipykernel", reason="needs ipykernel, which is of the extra `test`")
    import nbformat

    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):  # nothing of the person who runs it
        monkeypatch.setenv(variable, str(tmp_path / variable))
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    nbclient.NotebookClient(content, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert cells and not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert notebook.stat().st_size < 20_000
