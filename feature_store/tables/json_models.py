"""Typed contents of JSON files. What was written reads back as the same bytes: keys keep the model's order, absent keys stay absent."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from feature_store.tables.json_files import load_json, write_json


def _time(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


IsoTime = Annotated[datetime, BeforeValidator(_time), PlainSerializer(lambda time: time.isoformat(), return_type=str)]


class JsonModel(BaseModel):
    """An object of a JSON file. Keys that it does not name are kept: another release may have written them."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """The typed content.

        Raises
        ------
        ValueError
            When a key is missing or has another type. The message is one line.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place + ': ' if place else ''}{first['msg']}") from None

    def to_json(self) -> dict[str, Any]:
        """What a JSON file holds: exactly the keys that were given or read."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class JsonFile(JsonModel):
    """A JSON file that has one name in every folder.

    Attributes
    ----------
    FILE : str
        The name.
    """

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file of a folder.

        Raises
        ------
        OSError
            When there is none.
        ValueError
            When it holds something else. The message is one line.
        """
        try:
            return cls.from_json(load_json(folder / cls.FILE))
        except ValueError as error:
            raise ValueError(f"{folder / cls.FILE} is damaged: {error}; delete {folder} and run again") from None

    def write(self, folder: Path) -> None:
        """Write the file of a folder."""
        write_json(folder / self.FILE, self.to_json())
