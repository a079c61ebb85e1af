"""Plug-ins: what another installed package adds to this project, or a program registers, found by its name.

A package says what it adds by entry points in its ``pyproject.toml``. Nothing of it is imported before a configuration names it.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

Group = Literal["ctr_kd.students", "ctr_kd.teachers", "ctr_kd.objectives", "ctr_kd.readers"]
Plugin = TypeVar("Plugin")

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")  # package.module:Class
_registered: dict[tuple[Group, str], Any] = {}


class PluginError(ValueError):
    """A plug-in is not there, cannot be imported, or is not what it should be; the message is one line that says which."""


def register_plugin(group: Group, name: str) -> Callable[[Plugin], Plugin]:
    """Make a class or function of this program known by a name, as an installed package does by an entry point.

    The name then means this one, whatever it meant before, so that a notebook's cell may run again.

    Examples
    --------
    >>> @register_plugin("ctr_kd.teachers", "of_an_example")
    ... class Teacher: ...
    >>> load_plugin("ctr_kd.teachers", "of_an_example") is Teacher
    True
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise PluginError(f"{name!r} is no name for a {_noun(group)}: let it be of letters, digits, '_', '-' and '.'")

    def register(plugin: Plugin) -> Plugin:
        _registered[group, name] = plugin
        return plugin

    return register


def entry_points_of(group: Group) -> dict[str, EntryPoint]:
    """Entry points of a group by name, of all installed packages.

    Raises
    ------
    PluginError
        When two packages give one name to two places.
    """
    found: dict[str, EntryPoint] = {}
    for one in entry_points(group=group):
        other = found.setdefault(one.name, one)
        if other.value != one.value:
            raise PluginError(
                f"two installed packages have a {_noun(group)} {one.name!r}, {_package(other)} ({other.value}) and {_package(one)} "
                f"({one.value}): uninstall one of them"
            )
    return found


def plugin_names(group: Group) -> list[str]:
    """Names of all plug-ins of a group, of installed packages and registered ones, in order."""
    return sorted({name for of, name in _registered if of == group} | entry_points_of(group).keys())


def load_plugin(group: Group, name: str, built_in: Iterable[str] = ()) -> Any:
    """The class or function that a name means.

    Parameters
    ----------
    group : str
    name : str
        Registered, that of an entry point, or a place ``package.module:Class``.
    built_in : iterable of str, optional
        Names of what this project has by itself, for the message about an unknown name.

    Raises
    ------
    PluginError
        When there is none of that name, or its module cannot be imported.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    point = _entry_point(group, name, built_in)
    try:
        return point.load()
    except Exception as error:  # a module may fail in any way while it is imported
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        missing = "; install it, or add its folder to PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        raise PluginError(f"the {_noun(group)} {_said(point)} cannot be imported: {cause}{missing}") from error


def load_class(group: Group, name: str, methods: Sequence[str], built_in: Iterable[str] = ()) -> type[Any]:
    """What :func:`load_plugin` gives, which must be a class that has these methods.

    Raises
    ------
    PluginError
        As there; also when it is no class, or lacks a method.
    """
    plugin = load_plugin(group, name, built_in)
    if not isinstance(plugin, type):
        raise PluginError(f"the {_noun(group)} {name!r} is no class but a {type(plugin).__name__} ({plugin!r})"[:300])
    lacking = [method for method in methods if not callable(getattr(plugin, method, None))]
    if lacking:
        where = f"{plugin.__module__}.{plugin.__qualname__}"
        raise PluginError(f"the {_noun(group)} {name!r} ({where}) has no method {lacking[0]!r}; it needs {', '.join(methods)}")
    return plugin


def load_function(group: Group, name: str, built_in: Iterable[str] = ()) -> Callable[..., Any]:
    """What :func:`load_plugin` gives, which must be a function.

    Raises
    ------
    PluginError
        As there; also when it is none.
    """
    plugin = load_plugin(group, name, built_in)
    if isinstance(plugin, type) or not callable(plugin):
        raise PluginError(f"the {_noun(group)} {name!r} is no function but {plugin!r}"[:300])
    function: Callable[..., Any] = plugin
    return function


def plugin_digest(group: Group, name: str, built_in: Iterable[str] = ()) -> str:
    """Digest of a plug-in, by which what was made with it is known to be of another one.

    It covers the version of its distribution and all files of its package, or its module where that lies in none; not those of other
    packages that it imports. Nothing is imported for it.

    Returns
    -------
    str
        sha256, in hexadecimal.

    Raises
    ------
    PluginError
        When there is none of that name, or its source cannot be found.
    """
    digest = hashlib.sha256()
    if (group, name) in _registered:
        plugin = _registered[group, name]
        module = plugin.__module__
    else:
        plugin, point = None, _entry_point(group, name, built_in)
        module = point.module
        digest.update(_package(point).encode())
    files = _files_of(module.partition(".")[0])
    if not files and plugin is None:
        top = module.partition(".")[0]
        raise PluginError(f"the {_noun(group)} {name!r}: there is no package {top!r}; install it, or add its folder to PYTHONPATH")
    if not files:
        digest.update(_own_source(plugin, group, name).encode())
    for place, path in files:
        digest.update(f"\0{place}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _entry_point(group: Group, name: str, built_in: Iterable[str]) -> EntryPoint:
    if _PLACE.fullmatch(name):
        return EntryPoint(name, name, group)
    points = entry_points_of(group)
    if name not in points:
        others = plugin_names(group)
        known = [f"there are {', '.join(built_in)}"] if built_in else []
        known.append(f"installed plug-ins: {', '.join(others)}" if others else "no plug-in is installed")
        raise PluginError(f"there is no {_noun(group)} {name!r}; {'; '.join(known)}")
    return points[name]


def _files_of(top: str) -> list[tuple[str, Path]]:
    """Files of a package, or the one of a module, each with its place in it; none where it has no source, as what a prompt defines."""
    if top == "__main__":
        file = getattr(sys.modules[top], "__file__", None)
        return [("__main__", Path(file))] if file is not None and Path(file).is_file() else []
    try:
        spec = find_spec(top)
    except ValueError:  # a module that was made by hand
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [(top, Path(spec.origin))] if spec.origin is not None and Path(spec.origin).is_file() else []
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    files = ((path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(one for one in files if "__pycache__" not in one[0])


def _own_source(plugin: Any, group: Group, name: str) -> str:
    """Text of a class or function that is in no file."""
    try:
        return inspect.getsource(plugin)
    except (OSError, TypeError):
        raise PluginError(
            f"the {_noun(group)} {name!r} has no source that can be read, so that a run could not tell when it changes: put it in a module"
        ) from None


def _noun(group: Group) -> str:
    return group.rpartition(".")[2].removesuffix("s")


def _package(point: EntryPoint) -> str:
    return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _said(point: EntryPoint) -> str:
    """Name, place and package, as a message says them."""
    place = "" if point.name == point.value else f" ({point.value}{f' of {_package(point)}' if point.dist else ''})"
    return f"{point.name!r}{place}"
