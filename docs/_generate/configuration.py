"""The page of the configuration, from the models that read it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from feature_store.config_types import OR_AUTO
from pipelines.config.problems import keys_of
from pipelines.config.run import RunConfig, scalar

NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    datetime: "time",
    timedelta: "duration",
    Path: "path",
    Any: "value",
}
SIGNS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "max_length": "at most {} long", "min_length": "at least {}"}


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes
    ----------
    path : str
        Dotted, as ``--set`` takes it.
    field : FieldInfo
    block : type of BaseModel or None
        The keys below it, where it is a block. A list of blocks is a value, and its path with ``[]`` each of the blocks.
    default : object
        What stands there when the file says nothing, as its block's own default has it.
    """

    path: str
    field: FieldInfo
    block: type[BaseModel] | None
    default: Any


def all_keys(model: type[BaseModel] = RunConfig, above: str = "", given: BaseModel | None = None) -> Iterator[Key]:
    """Every key below a block, depth first, in the order of the code.

    Parameters
    ----------
    model : type of BaseModel
    above : str
        Dotted path of the block.
    given : BaseModel or None
        The block's default, whose values are those of its keys.
    """
    for name, field in model.model_fields.items():
        path = f"{above}.{field.alias or name}" if above else field.alias or name
        default = getattr(given, name) if given is not None else field.get_default(call_default_factory=True)
        block = block_of(field.annotation)
        yield Key(path, field, block, default)
        if block is not None:
            yield from all_keys(block, path, default if isinstance(default, BaseModel) else None)
        elif (element := element_of(field.annotation)) is not None:
            yield Key(f"{path}[]", field, element, ())
            yield from all_keys(element, f"{path}[]")


def block_of(annotation: Any) -> type[BaseModel] | None:
    """The block that a key is, ``X`` or ``X | None``; a list of blocks is a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next((block for part in typing.get_args(annotation) if (block := block_of(part)) is not None), None)
    return None


def element_of(annotation: Any) -> type[BaseModel] | None:
    """The block that each element of a list of blocks is."""
    part = next(iter(typing.get_args(annotation)), None)
    return part if isinstance(part, type) and issubclass(part, BaseModel) else None


def page() -> str:
    """Markdown of every key: type, default and meaning, a section for each key of the first level."""
    everything = list(all_keys())
    single = [key for key in everything if "." not in key.path and key.block is None]
    blocks = [key for key in everything if "." not in key.path and key.block is not None]
    lines = [
        "# Configuration",
        "",
        "One YAML file describes a run. `source` and `split` suffice, for texts `source` alone: everything else has a default.",
        "Unknown keys are errors. `--set key.path=value` overrides one key of one command. `ctr-kd config CONF` prints the file with",
        "every key filled in. This page is made from the code.",
        "",
        "Times are UTC, as in `2017-10-11T14:00`; a date alone means its midnight. Durations are a number and a unit: `90s`, `30m`, `4h`,",
        "`10d`, `2w`.",
        "",
        "| key | meaning |",
        "| --- | --- |",
        *(f"| [`{key.path}`](#{key.path}) | {_cell(key.field.description)} |" for key in blocks),
        "",
        "## A run",
        "",
        *_table(single),
        "",
    ]
    for top in blocks:
        below = [key for key in everything if key.path.startswith(f"{top.path}.")]
        lines += [f"## {top.path} {{ #{top.path} }}", "", _sentence(top.field.description), "", *_about(top), *_section(top.path, below)]
        for inner in (key for key in below if key.block is not None):
            lines += [
                f"### {inner.path} {{ #{inner.path.replace('[]', '')} }}",
                "",
                _sentence(inner.field.description),
                "",
                *_about(inner),
                *_section(inner.path, below),
            ]
    return "\n".join(lines)


def _about(key: Key) -> list[str]:
    """What the block says of itself, and that it is absent unless it is written."""
    said = _sentence(" ".join((key.block.__dict__.get("__doc__") or "").split())) if key.block is not None else ""
    absent = "Absent unless it is written." if key.default is None and not key.field.is_required() else ""
    return [line for text in (said, absent) if text for line in (text, "")]


def _section(path: str, below: list[Key]) -> list[str]:
    own = [key for key in below if key.block is None and key.path.rpartition(".")[0] == path]
    return [*_table(own), ""] if own else []


def _table(rows: list[Key]) -> Iterator[str]:
    yield from ("| key | type | default | meaning |", "| --- | --- | --- | --- |")
    for key in rows:
        yield f"| `{key.path}` | {_cell(kind(key.field))} | {_default(key)} | {_cell(key.field.description)} |"


def _default(key: Key) -> str:
    if key.path == "name":  # read from the file's name
        return "the file's name"
    return "required" if key.field.is_required() else f"`{_cell(scalar(key.default))}`"


def kind(field: FieldInfo) -> str:
    """A key's type and bounds in words.

    Examples
    --------
    >>> from pydantic import BaseModel, Field
    >>> class Block(BaseModel):
    ...     amount: float | None = Field(None, ge=0, le=10)
    >>> kind(Block.model_fields["amount"])
    'number, ≥ 0, ≤ 10; or null'
    """
    words, nullable = _words(field.annotation)
    bounds = [
        text.format(f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value)
        for found in field.metadata
        for name, text in SIGNS.items()
        if (value := getattr(found, name, None)) is not None
    ]
    auto = "; or `auto`" if OR_AUTO[0] in field.metadata else ""
    return ", ".join([words, *bounds]) + ("; or null" if nullable else "") + auto


def _words(annotation: Any) -> tuple[str, bool]:
    """An annotation in words, and whether null is allowed."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts), False
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(part)[0] for part in parts if part is not type(None)), type(None) in parts
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"{len(parts)} of {_words(parts[0])[0]}", False
    if origin in (list, tuple):
        return f"list of {_words(parts[0])[0]}", False
    if origin is dict:
        return f"{_words(parts[0])[0]} to {_words(parts[1])[0]}", False
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"blocks of {', '.join(f'`{name}`' for name in keys_of(annotation))}", False
    return NAMES[annotation], False


def _sentence(text: str | None) -> str:
    """As a sentence: a capital first, unless it begins with code or a lower-case term, and a full stop."""
    text = (text or "").replace("``", "`")
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("<", "&lt;")
