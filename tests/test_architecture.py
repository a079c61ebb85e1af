"""What import-linter (pyproject.toml) cannot see of the architecture: nothing anywhere is unpickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("feature_store", "ctr_kd", "pipelines")


def imported(source: str) -> Iterator[str]:
    """Top-level names of all modules that a file imports, at its head or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def files(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_nothing_is_unpickled(floor: str) -> None:
    """Loading a pickle runs whatever it says; tensors are read with weights_only."""
    for path in files(floor):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = ast.unparse(node.func.value)
                safe = any(word.arg == "weights_only" and getattr(word.value, "value", None) is True for word in node.keywords)
                assert owner not in ("pickle", "joblib", "cloudpickle") and (owner != "torch" or safe), f"{path}:{node.lineno}"
        assert "pickle" not in set(imported(path.read_text(encoding="utf-8"))), path
