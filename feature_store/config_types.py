"""What settings are made of: a block of them, times and durations."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WrapSerializer, WrapValidator


class Config(BaseModel):
    """A block of settings: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def reads(cls, values: Any) -> type[Config]:
        """The class that reads a block of these settings: this one, unless the values name another, as that of a plug-in."""
        return cls


def by_their_own(block: type[Config]) -> BeforeValidator:
    """Lets values be read by the class that they name; see :meth:`Config.reads`."""
    return BeforeValidator(lambda values: values if isinstance(values, BaseModel) else block.reads(values).model_validate(values))


AUTO: Any = "auto"


def is_auto(value: object) -> bool:
    """Whether a value is left for the log to decide."""
    return isinstance(value, str) and value == AUTO


OR_AUTO = (
    WrapValidator(lambda value, read: value if is_auto(value) else read(value)),
    WrapSerializer(lambda value, write: value if is_auto(value) else write(value)),
)
"""Lets a key of a number say ``auto`` as well: the log decides it (:mod:`ctr_kd.budgets`) before anything computes with it, so that its
type is that of the number."""


def parse_time(value: Any) -> datetime:
    """Read a time of the configuration as UTC; a date alone means its midnight.

    Parameters
    ----------
    value : str, date or datetime
        ISO 8601, quoted or not. A time without a zone is UTC.

    Raises
    ------
    ValueError
        When the text is no ISO 8601 time.

    Examples
    --------
    >>> parse_time("2017-10-11T14:00")
    datetime.datetime(2017, 10, 11, 14, 0, tzinfo=datetime.timezone.utc)
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{value!r} is not a time: write 2017-10-11 or 2017-10-11T14:00 (UTC)") from None
    if isinstance(value, date) and not 1970 <= value.year <= 9998:  # a datetime is a date
        raise ValueError(f"{value.isoformat()!r} is no time that a log can have: write one from 1970 on")
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(f"{value!r} is not a time: write 2017-10-11 or 2017-10-11T14:00 (UTC)")


_LONGEST = 36_500 * 86_400  # seconds
_ISO_DURATION = TypeAdapter(Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(seconds=_LONGEST))])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(value: Any) -> timedelta:
    """Read a duration such as ``90s``, ``30m``, ``4h``, ``10d`` or ``2w``; also as manifests and lineages have it, in ISO 8601.

    Examples
    --------
    >>> parse_duration("4h"), parse_duration("PT4H")
    (datetime.timedelta(seconds=14400), datetime.timedelta(seconds=14400))
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and value.startswith("P"):
        with suppress(ValidationError):
            return _ISO_DURATION.validate_python(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", str(value))
    if not match or float(match[1]) == 0:
        raise ValueError(f"{value!r} is not a duration: write a number above zero and a unit, as in 90s, 30m, 4h, 10d or 2w")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{value!r} is longer than any log: a duration has at most 36500d")
    return timedelta(seconds=seconds)


Time = Annotated[datetime, BeforeValidator(parse_time)]


def duration_text(value: timedelta) -> str:
    """Write a duration as :func:`parse_duration` reads it, in its largest whole unit.

    Examples
    --------
    >>> duration_text(timedelta(hours=48)), duration_text(timedelta(minutes=90)), duration_text(timedelta(seconds=0.5))
    ('2d', '90m', '0.5s')
    """
    seconds = value.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def in_microseconds(value: timedelta) -> int:
    """A duration as the times of a log are measured."""
    return value // timedelta(microseconds=1)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Block = TypeVar("Block", bound=Config)


def is_url(text: str) -> bool:
    """Whether a text names a folder behind a URL.

    Examples
    --------
    >>> is_url("s3://bucket/logs"), is_url("C:/logs"), is_url("a folder")
    (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """Keys of a block as the YAML file spells them, with their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def block_of(annotation: Any, values: Any = None) -> type[BaseModel] | None:
    """The configuration class inside an annotation such as ``EventColumns | None``, which may depend on the values that it reads."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.reads(values) if issubclass(annotation, Config) else annotation
    return next((block for part in typing.get_args(annotation) if (block := block_of(part, values))), None)


def keep_defaults_of_blocks(values: dict[str, Any], block: type[BaseModel]) -> None:
    """Let a block that sets one key keep what its parent's default says about the others.

    The default of a training loop in a stage is not that of its bare class: without this, setting its epochs alone would silently change
    its batch size as well.
    """
    for key, field in keys_of(block).items():
        given = values.get(key)
        inner = block_of(field.annotation, given)
        if inner is None or not isinstance(given, dict):
            continue
        if isinstance(field.default, BaseModel):
            _merge(given, field.default.model_dump(exclude_unset=True, by_alias=True))
        keep_defaults_of_blocks(given, inner)


def _merge(values: dict[str, Any], defaults: dict[str, Any]) -> None:
    for key, default in defaults.items():
        if key not in values:
            values[key] = default
        elif isinstance(default, dict) and isinstance(values[key], dict):
            _merge(values[key], default)


def settings_of(kind: type[Block], given: Block | Mapping[str, Any] | None, name: str = "") -> Block:
    """A block of settings from what Python code gives: such a block, its keys by name, or None for the defaults.

    Parameters
    ----------
    kind : type
        Of the block.
    given : block, mapping or None
    name : str
        Key of the block, for messages.

    Raises
    ------
    ValueError
        When a key is unknown or its value wrong. The message is one line: which key, and what is wrong.

    Examples
    --------
    >>> class Shape(Config):
    ...     width: int = 2
    >>> settings_of(Shape, {"width": 3}).width, settings_of(Shape, None).width
    (3, 2)
    >>> settings_of(Shape, {"width": "x"}, "shape")
    Traceback (most recent call last):
    ValueError: shape.width: input should be a valid integer, unable to parse string as an integer
    """
    if isinstance(given, kind):
        return given
    values: Any = {} if given is None else deepcopy(dict(given)) if isinstance(given, Mapping) else given
    if isinstance(values, dict):
        keep_defaults_of_blocks(values, kind)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = ".".join(map(str, ([name] if name else []) + list(first["loc"]))), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message[:1].lower()}{message[1:]}" if key else message) from None
