"""``signature.json`` of an exported student of next items, and the files beside it. Read in production, so torch is not needed."""

from __future__ import annotations

from typing import ClassVar

from feature_store.tables.json_models import JsonFile

GRAPH, ITEMS = FILES = ("student.onnx", "items.parquet")


class NextItemSignature(JsonFile):
    """What an exported student of next items says of itself.

    Attributes
    ----------
    inputs, outputs : dict of str to str
        Type, shape and meaning.
    special_tokens : list of str
        Indices before those of the items; 0 is padding, 1 an item that is not known.
    max_length : int
        Clicks of a history that count: the newest.
    width : int
        Numbers of a vector, the bias included.
    sha256 : dict of str to str
        Of the files beside it.
    """

    FILE: ClassVar[str] = "signature.json"

    inputs: dict[str, str]
    outputs: dict[str, str]
    special_tokens: list[str]
    max_length: int
    width: int
    sha256: dict[str, str]
