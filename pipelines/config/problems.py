"""What is wrong with a configuration: each problem in one line that says in which file and line, which key, and what is allowed there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from feature_store.config_types import block_of, keys_of
from feature_store.plugins import PluginError

_KEY = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
_LAST = 1 << 30  # lines; what stands in no file comes after all that does


class Misfits(ValueError):
    """Several keys that do not fit together; a validator raises it once it has looked at all of them."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Document:
    """A YAML file that was read.

    Attributes
    ----------
    path : str
        The file.
    values : dict, or whatever else the file holds
    node : yaml.Node or None
        Knows where each key stands.
    repeated : tuple of (int, str)
        Lines with a key that is there already, and what to say of each.
    """

    path: str
    values: Any
    node: yaml.Node | None = None
    repeated: tuple[tuple[int, str], ...] = ()

    def line(self, keys: Sequence[str]) -> int | None:
        """Where a key stands, or else the innermost block that it would stand in; from 1."""
        node, line = self.node, None
        for key in keys:
            found = next(_below(node, key), None)
            if found is None:
                break
            line, node = found
        return line


def _below(node: yaml.Node | None, key: str) -> Iterator[tuple[int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((name.start_mark.line + 1, value) for name, value in node.value if name.value == key)
    elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
        yield node.value[int(key)].start_mark.line + 1, node.value[int(key)]


class _Loader(yaml.SafeLoader):
    """Safe YAML that notes repeated keys: plain YAML would silently keep the last one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            name, line = (key if isinstance(key, (str, int)) else repr(key)), key_node.start_mark.line + 1
            if name in seen:
                self.repeated.append((line, f"the key {key!r} is given twice, first in line {seen[name]}"))
            seen.setdefault(name, line)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, path: str) -> Document:
    """Values of a YAML text, with the places of its keys.

    Raises
    ------
    yaml.YAMLError
        When it is none.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        values = None if node is None else _apart(loader.construct_document(node))
    finally:
        loader.dispose()
    return Document(path, values, node, tuple(loader.repeated))


def _apart(value: Any) -> Any:
    """Values of which none is another: a block that stands in two places, by an anchor, is to be changed in one of them alone."""
    if isinstance(value, dict):
        return {key: _apart(inner) for key, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value


def problems_of(error: ValidationError | None, document: Document, overridden: Sequence[str], model: type[BaseModel]) -> list[str]:
    """All that is wrong, in the order of the file.

    Parameters
    ----------
    error : ValidationError, optional
        Of the values, overrides included; None where only keys are repeated.
    document : Document
    overridden : sequence of str
        Dotted keys that ``--set`` gave.
    model : type
        The configuration.
    """
    found = [(line, f"{document.path}:{line}: {text}") for line, text in document.repeated]
    for keys, text in [] if error is None else _problems(error, model, document.values):
        said = ": ".join(part for part in (".".join(keys), text) if part).replace("\n", " ")
        place = _place(keys, text, model, document.values)
        if any(_is_below(".".join(one), name) for one in (keys, place) for name in overridden):
            found.append((_LAST, f"--set: {said}"))
        else:
            line = document.line(place)
            found.append((line or _LAST, f"{document.path}{f':{line}' if line else ''}: {said}"))
    return [text for _, text in sorted(found, key=lambda one: one[0])]


def _is_below(key: str, other: str) -> bool:
    """Whether a dotted key is another one, or lies in its block."""
    return key == other or key.startswith(f"{other}.")


def _place(keys: Sequence[str], text: str, model: type[BaseModel], values: Any) -> Sequence[str]:
    """The key that a text is about: the first that it names of the block where the problem was found, or else that block."""
    known = keys_of(_block_at(keys, model, values))
    name: str | None = next((name for name in _KEY.findall(text) if name.partition(".")[0] in known), None)
    return keys if name is None else [*keys, *name.split(".")]


def _problems(error: ValidationError, model: type[BaseModel], values: Any) -> list[tuple[Sequence[str], str]]:
    """Key and text of each problem; what several branches of a union say of one key is one."""
    found: dict[tuple[str, ...], list[str]] = {}
    misfits: list[tuple[Sequence[str], str]] = []
    for problem in error.errors(include_url=False):
        keys, block = _locate(problem["loc"], model, values)
        reason = problem.get("ctx", {}).get("error")
        if isinstance(reason, Misfits):
            misfits += [(keys, text) for text in reason.problems]
        else:
            found.setdefault(tuple(keys), []).append(_problem(problem, keys, block or model, _block_at(keys, model, values)))
    return [(keys, "; or ".join(dict.fromkeys(texts))) for keys, texts in found.items()] + misfits


def cause_of(error: ValidationError | None) -> Exception | None:
    """The plug-in that cannot be loaded, whose traceback says where, if that is among what is wrong."""
    found = [] if error is None else [problem.get("ctx", {}).get("error") for problem in error.errors(include_url=False)]
    return next((one for one in found if isinstance(one, PluginError)), None)


def _inside(values: Any, key: str) -> Any:
    """What is given below a key; None where there is nothing, or a list."""
    return values.get(key) if isinstance(values, dict) else None


def _locate(location: tuple[int | str, ...], model: type[BaseModel], values: Any) -> tuple[list[str], type[BaseModel] | None]:
    """Keys down to an error, without the names that pydantic adds for the branches of a union, and the block it lies in."""
    keys: list[str] = []
    block: type[BaseModel] | None = model
    parent: type[BaseModel] | None = None
    for position, part in enumerate(location):
        if isinstance(part, int):
            keys.append(str(part))
        elif block is not None and part in keys_of(block):
            values = _inside(values, part)
            parent, block = block, block_of(keys_of(block)[part].annotation, values)
            keys.append(part)
        elif block is not None and position == len(location) - 1:
            parent = block
            keys.append(part)
    return keys, parent


def _problem(problem: Any, keys: list[str], block: type[BaseModel], own: type[BaseModel]) -> str:
    """What is wrong with a key of a block, whose own keys are those of another where it is a block itself."""
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        valid = list(keys_of(block))
        nearest = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        return f"unknown key; did you mean {nearest[0]!r}?" if nearest else f"unknown key; valid here: {', '.join(valid)}"
    if kind == "missing":
        field = keys_of(block).get(keys[-1])
        return f"missing; it is required ({field.description if field else 'no default'})"
    if kind == "value_error":
        return str(message.removeprefix("Value error, "))
    if kind == "model_type":
        return f"should be a block of keys ({', '.join(keys_of(own))}), not {type(problem['input']).__name__}"
    value = problem["input"]
    shown = "a block of keys" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:80]
    return f"{message.removeprefix('Input ')}, not {shown}"


def _block_at(keys: Sequence[str], model: type[BaseModel], values: Any) -> type[BaseModel]:
    """The block that a key holds, or else the one that it lies in."""
    block = model
    for key in keys:
        values = _inside(values, key)
        field = keys_of(block).get(key)  # none for a place in a list
        block = (block_of(field.annotation, values) if field else None) or block
    return block
