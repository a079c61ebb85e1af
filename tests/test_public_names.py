"""The interface: what the packages name as public is there, for people, for editors and for type checkers, and costs nothing to import."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("feature_store", "ctr_kd", "pipelines")


def typed_imports(package: str) -> dict[str, str]:
    """Name -> module of what a package's head imports for type checkers alone."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.asname or "": node.module or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_those_that_are_found_and_typed(package: str) -> None:
    module = importlib.import_module(package)
    public = set(module.__all__) - {"__version__"}
    assert list(module.__all__) == sorted(module.__all__)
    assert public == set(module._PLACES) and typed_imports(package) == module._PLACES
    assert public <= set(dir(module))
    for name in public:
        assert getattr(module, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_packages_are_imported_in_a_moment() -> None:
    heavy = ("torch", "mlflow", "pandas", "pyarrow", "numpy", "duckdb")
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_student_is_loaded_without_torch() -> None:
    code = "import sys; from ctr_kd import load_student; print([name for name in ('torch', 'mlflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
