"""The JSON files of a store, typed: manifests of its folders, what the log offers, which input files were read, what a commit renames.

Each is written under a seal (:mod:`feature_store.tables.seal`), with sorted keys, so that equal content is equal bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field

from feature_store.tables.contracts import DataError, Kind, LogContract
from feature_store.tables.json_files import json_text, load_json
from feature_store.tables.json_models import IsoTime, JsonModel
from feature_store.tables.seal import sealed, unsealed

MANIFEST = "_manifest.json"
CONTRACT, LEDGER = "_contract.json", "_ledger.json"


class FolderManifest(JsonModel):
    """What every manifest says; of the resources it is all.

    Attributes
    ----------
    sha256 : dict of str to str
        Digest of each file of the folder, by its name there.
    """

    sha256: dict[str, str]


class TableManifest(FolderManifest):
    """Of items, users, events and texts.

    Attributes
    ----------
    rows : int
    columns : str
        Digest of the Arrow schema; the key is ``schema``.
    inputs : dict of str to str
        sha256 of the input files that the rows come from, by name.
    """

    rows: int
    columns: str = Field(alias="schema")
    inputs: dict[str, str]


class PartitionManifest(TableManifest):
    """Of the events of one date.

    Attributes
    ----------
    min_timestamp, max_timestamp, max_ingested_at : datetime
        When the first and the last event happened, and when the last one became known.
    """

    min_timestamp: IsoTime
    max_timestamp: IsoTime
    max_ingested_at: IsoTime


class TextManifest(TableManifest):
    """Of the texts of one split.

    Attributes
    ----------
    labels : dict of str to int
        Rows of each class.
    """

    labels: dict[str, int]


class QuarantineManifest(FolderManifest):
    """Of the rejected rows: how many there are, in all and for each reason."""

    rows: int
    reasons: dict[str, int]


class StoredLogContract(LogContract):
    """``_contract.json`` of a click log: what its reader says of it, and the types of the ids."""

    user_id: str
    item_id: str
    request_id: str

    @property
    def id_types(self) -> tuple[str, str, str]:
        """Names of the Arrow types of user, item and request ids."""
        return self.user_id, self.item_id, self.request_id


class TextContract(JsonModel):
    """What a store of texts holds: single texts or pairs, and the classes in the order of their indices."""

    pair: bool
    classes: list[str]


class StoredTextContract(JsonModel):
    """``_contract.json`` of labelled texts."""

    texts: TextContract


class InputFile(JsonModel):
    """What one input file turned out to hold; of texts only its digest is kept.

    Attributes
    ----------
    sha256 : str
    kinds : list of str
        Tables that it has rows for.
    rows : int
        Read, rejected ones included.
    text_ids : list of str
        Id columns with a value that is no canonical integer.
    future : int, optional
        Earliest of its times that lay in the future, in microseconds: from then on the file is worth another reading.
    encoder : str, optional
        Digest of what made vectors of its titles.
    """

    sha256: str
    kinds: list[Kind] = Field(default_factory=list)
    rows: int = 0
    text_ids: list[str] = Field(default_factory=list)
    future: int | None = None
    encoder: str | None = None


class Ledger(JsonModel):
    """``_ledger.json``: which input files the store was made of.

    Attributes
    ----------
    source : str
        Digest of the reader, its settings and the contract: a store holds one log.
    files : dict of str to InputFile
    values : int
        By which rules raw values were read; the first ones where it is absent.
    version : int, optional
        Of the Delta Lake table, or the snapshot of the Iceberg one, whose files the events are.
    """

    source: str
    files: dict[str, InputFile]
    values: int = 1
    version: int | None = None


class CommitRecord(JsonModel):
    """``_commit.json``: what a decided commit renames into place and what it removes."""

    replace: list[str]
    remove: list[str]


Content = TypeVar("Content", bound=JsonModel)


def write_sealed(path: Path, content: JsonModel) -> None:
    """The same bytes for the same content, under a seal."""
    path.write_text(json_text(sealed(content.to_json()), sort_keys=True), encoding="utf-8")


def read_sealed(path: Path, kind: type[Content]) -> Content:
    """Raises DataError when the file is not what :func:`write_sealed` wrote."""
    try:
        return kind.from_json(unsealed(load_json(path)))
    except (ValueError, AttributeError) as error:  # the latter where it is JSON, but no object
        repair = "restore it from a backup, or delete the store and ingest the whole raw log again"
        raise DataError(f"{path}: is damaged ({error}); {repair}") from None
