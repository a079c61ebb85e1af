"""Digests of the source that a stage runs, so that an artifact of other code is never taken for an up-to-date one.

A digest covers a module and all modules of this project that it imports, at its head or inside functions, and the files that they read
(SQL, templates). Comments, docstrings, the layout of the text and descriptions of configuration keys are left out: they change no
result. So are imports for types alone, and what only keeps artifacts, logs and the order of stages (see ``NOT_COVERED``).
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from feature_store.tables.json_files import digest_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feature_store", "ctr_kd", "pipelines")
# They decide where artifacts lie, what is logged and which stage runs next. What a stage writes does not depend on them.
NOT_COVERED = ("pipelines.workspace", "pipelines.tracking", "pipelines.errors", "pipelines.exit_codes")
# Folders of files that are not Python, by the module or the room that reads them.
READ_BY = {"feature_store.engines.sql_template": "feature_store/sql", "ctr_kd.report": "ctr_kd/report"}
# Modules that are copied as files, and the module that copies them.
COPIED_BY = {
    "pipelines.registry.model_package": ("pipelines.registry.pyfunc_model", "ctr_kd.export.newest_vectors"),
    "ctr_kd.export.onnx_export": ("ctr_kd.export.click_scorer",),
}
_SQL_COMMENT = re.compile(r"--.*")


def source_of(module: str, root: Path = ROOT) -> dict[str, str]:
    """Digests of the source that a module runs.

    Parameters
    ----------
    module : str
        Dotted name; of this project, or any other module that is imported already.
    root : Path
        Folder of the three packages.

    Returns
    -------
    dict of str to str
        Digest by module, of the module itself and of all modules of this project that it imports; a folder of files that a module reads
        is under the folder's name.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name.startswith(NOT_COVERED):
            continue
        path = _path_of(name, root)
        if path is None:
            continue
        found[name], imported = _read(path, path.stat().st_mtime_ns)
        # What is imported is a module, or a name that a module or the head of a package defines.
        waiting += [one if _path_of(one, root) else one.rpartition(".")[0] for one in imported]
        if name in COPIED_BY:
            waiting.extend(COPIED_BY[name])
        for reader, folder in READ_BY.items():
            if folder not in found and (name == reader or name.startswith(f"{reader}.")):
                found[folder] = _folder_digest(root / folder)
    return found


def changed_modules(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Names whose digests differ, or that only one of the two has.

    Examples
    --------
    >>> changed_modules({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    ['b', 'c']
    """
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


def _path_of(module: str, root: Path) -> Path | None:
    """File of a module of this project, or of the module from elsewhere that a stage is defined in; None where there is none."""
    if module.split(".")[0] in PACKAGES:
        return _file_of(module, root)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    return Path(loaded) if loaded and loaded.endswith(".py") else None


@cache
def _file_of(module: str, root: Path) -> Path | None:
    """File of a module or package below a root."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _read(path: Path, modified: int) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's code, and the modules of this project that it may import; what changes no result is taken out before."""
    tree = ast.parse(path.read_bytes(), str(path))
    imported: dict[str, None] = {}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        elif isinstance(node, ast.Import):
            imported |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported |= dict.fromkeys(f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)
    ours = tuple(name for name in imported if name.split(".")[0] in PACKAGES)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours


def _folder_digest(folder: Path) -> str:
    """Digest of all files of a folder that are not Python; of SQL without its comments."""
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            text = path.read_text(encoding="utf-8")
            texts[path.relative_to(folder).as_posix()] = _SQL_COMMENT.sub("", text).split() if path.suffix == ".sql" else text
    return digest_of(texts)
