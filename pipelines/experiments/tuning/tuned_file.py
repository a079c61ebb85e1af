"""The configuration with the values that won, as a file that a person reads: the user's own text, where it can be kept."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from feature_store.tables.json_files import write_text
from pipelines.config.problems import read_yaml
from pipelines.config.run import RunConfig, load, scalar, set_key
from pipelines.config.shipped import shipped_file
from pipelines.errors import ConfigError

_DIGEST = "# digest: "  # of all that follows its line: whether somebody edited the file


def tuned_path(conf: Path) -> Path:
    """Where the tuned configuration goes: beside the configuration, under its name.

    Examples
    --------
    >>> tuned_path(Path("conf/mine.yaml")).as_posix(), tuned_path(Path("simulated")).as_posix()
    ('conf/mine.tuned.yaml', 'simulated.tuned.yaml')
    """
    return conf.with_name(f"{conf.stem if conf.suffix in ('.yaml', '.yml') else conf.name}.tuned.yaml")


def refuse_edited(path: Path) -> None:
    """Make sure that nothing is lost when a file is replaced.

    Raises
    ------
    ConfigError
        When there is one that `tune` did not write, or that somebody edited since.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        text = ""
    head, _, rest = text.partition("\n")
    if head != _DIGEST + _digest(rest):
        raise ConfigError(f"{path} was not written by tune, or was edited since: move it away, or name another with --output")


def write_tuned(path: Path, conf: Path, overrides: Sequence[str], changes: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write the configuration with its ``--set`` and the changed keys; it loads to just that, under the same name.

    Parameters
    ----------
    path : Path
    conf : Path
        The configuration as the user names it.
    overrides : sequence of str
        Of ``--set``, which the search had too.
    changes : mapping of str to value
        By dotted key.
    comments : sequence of str
        Lines of the head.

    Raises
    ------
    ConfigError
        When the file is not one that may be replaced.
    """
    refuse_edited(path)
    wanted = load(conf, [*overrides, *(f"{key}={scalar(value)}" for key, value in changes.items())])
    text = (shipped_file(conf) or conf).read_text(encoding="utf-8")
    values: dict[str, Any] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key.strip()] = yaml.safe_load(value)
    values |= changes
    named = read_yaml(text, str(conf)).values or {}
    if "name" not in named:
        values = {"name": wanted.name, **values}
    body = _edited(text, values)
    if body is None or not _loads_to(body, wanted):
        merged = named
        for key, value in values.items():
            set_key(merged, key, value, str(conf))
        body = yaml.safe_dump(merged, allow_unicode=True, sort_keys=False, width=120)
    head = "".join(f"#{' ' if line else ''}{line}\n" for line in comments)
    rest = f"{head}\n{body}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{_DIGEST}{_digest(rest)}\n{rest}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _loads_to(text: str, wanted: RunConfig) -> bool:
    """Whether the edited text says what it shall; an edit of an unusual text may have gone astray."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "edited.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            return load(file) == wanted
        except ConfigError:
            return False


def _edited(text: str, values: Mapping[str, Any]) -> str | None:
    """A YAML text with other values under dotted keys; all else of it, comments too, stays as it is. None where that gives no YAML.

    Examples
    --------
    >>> text = "a: {x: 1}  # why\\nb:\\n  c: 2  # so\\ng:\\n"
    >>> print(_edited(text, {"a.x": 3, "a.y": [1, 2], "b.c": 4, "b.d": 5, "e.f": 6, "g.h": 7}), end="")
    a: {y: [1, 2], x: 3}  # why
    b:
      d: 5
      c: 4  # so
    g: {h: 7}
    e: {f: 6}
    """
    try:
        for key, value in values.items():
            text = _with_value(text, key.split("."), value)
    except yaml.YAMLError:  # a text with an end of its own, for instance
        return None
    return text


def _with_value(text: str, keys: Sequence[str], value: Any) -> str:
    node = read_yaml(text, "").node
    depth = 0
    while isinstance(node, yaml.MappingNode) and depth < len(keys):
        found = next((inner for name, inner in node.value if name.value == keys[depth]), None)
        if found is None:
            break
        node, depth = found, depth + 1
    if node is None:
        return f"{text}{scalar(_nested(keys, value)).removeprefix('{').removesuffix('}')}\n"
    if depth == len(keys):  # it has a value, which is replaced
        start, end = node.start_mark.index, node.end_mark.index
        end = start + len(text[start:end].rstrip())
        return f"{text[:start]}{_space_before(text, start)}{scalar(value)}{text[end:]}"
    if not isinstance(node, yaml.MappingNode):  # `distill:` and nothing below it
        start, end = node.start_mark.index, node.end_mark.index
        return f"{text[:start]}{_space_before(text, start)}{scalar(_nested(keys[depth:], value))}{text[end:]}"
    inside = scalar(_nested(keys[depth:], value)).removeprefix("{").removesuffix("}")
    if node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{inside}{', ' if node.value else ''}{text[at:]}"
    if depth == 0:
        return f"{text.rstrip()}\n{inside}\n"
    first = node.value[0][0].start_mark
    return f"{text[: first.index]}{inside}\n{' ' * first.column}{text[first.index :]}"


def _space_before(text: str, at: int) -> str:
    return " " if at and text[at - 1] == ":" else ""


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A value under keys, each inside the one before."""
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}
