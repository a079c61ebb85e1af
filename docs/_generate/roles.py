"""Names in docstrings become links: ``:func:`x``` is looked up from where it stands, and one that is not there is a warning."""

from __future__ import annotations

import logging
import re
from typing import Any

import griffe

log = logging.getLogger("mkdocs.hooks.roles")
ROLE = re.compile(r":(?:func|class|attr|meth|mod|data|exc|obj):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites the roles of reStructuredText, in which the docstrings are written, as links of mkdocstrings."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """All of a package is loaded: every name that a docstring may mean is known."""
        self._visit(pkg, loader)

    def _visit(self, seen: griffe.Object, loader: griffe.GriffeLoader) -> None:
        if seen.docstring is not None:
            seen.docstring.value = ROLE.sub(lambda match: _link(seen, match[1], loader), seen.docstring.value)
        for member in seen.members.values():
            if not member.is_alias:
                self._visit(member, loader)


def _link(seen: griffe.Object, name: str, loader: griffe.GriffeLoader) -> str:
    found = _find(seen, name, loader)
    if found is None:
        log.warning(f"{seen.path}: its docstring names {name}, which does not exist")
        return f"`{name}`"
    if found.is_alias:
        found = found.final_target
    shown = name.rpartition(".")[2]
    private = any(part.startswith("_") and part != "__init__" for part in found.path.split("."))
    return f"`{shown}`" if private or not found.has_docstring else f"[`{shown}`][{found.path}]"


def _find(seen: griffe.Object, name: str, loader: griffe.GriffeLoader) -> Any:
    """What a name means inside an object: a member of its class or its module, or a full path."""
    scope: Any = seen
    while scope is not None:
        try:
            return scope[name]
        except (KeyError, griffe.AliasResolutionError):
            scope = scope.parent
    try:
        package = name.partition(".")[0]
        if package not in loader.modules_collection:
            loader.load(package, try_relative_path=False)
        return loader.modules_collection[name]
    except (KeyError, ImportError):
        return None
