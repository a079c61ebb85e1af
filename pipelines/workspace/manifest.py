"""What the manifest of a directory says: how its files were made, and their digests."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from feature_store.tables.json_models import JsonFile, JsonModel

MANIFEST = "_manifest.json"


class StageInput(JsonModel):
    """What a stage read.

    Attributes
    ----------
    fingerprint : str or None
        Of the artifact of an earlier stage; what comes from outside has none.
    digest : str or None
        Of all its bytes.
    """

    fingerprint: str | None = None
    digest: str | None = None


class MadeFrom(JsonModel):
    """Everything that decides what a stage makes.

    Attributes
    ----------
    inputs : dict of str to StageInput
        By the name of the earlier stage, or of what comes from outside.
    config : dict
        Dotted configuration keys that the stage reads, with their values.
    source : dict of str to str, optional
        Digests of the modules that the stage runs; release 0.1 kept none.
    """

    inputs: dict[str, StageInput] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, str] | None = None


class ReportManifest(JsonFile):
    """The manifest of a published report: of which stage it is, and the digest of the artifact that it shows."""

    FILE: ClassVar[str] = MANIFEST

    stage: str
    digest: str


class FileDigest(JsonModel):
    """One file of a directory."""

    sha256: str
    bytes: int | None = None


class Manifest(JsonModel):
    """The manifest of an artifact; see :class:`MadeFrom` for what it was made from.

    Attributes
    ----------
    stage, fingerprint : str
        Which stage, and the name of the artifact.
    started : str
        ISO 8601, UTC.
    seconds : float
        That the stage took.
    peak_memory_bytes : int
    versions : dict of str to str
        Of Python and of the packages on which results depend.
    facts : dict
        What the stage recorded of itself.
    digest : str
        Of the names and bytes of all files.
    files : dict of str to FileDigest
        By name relative to the artifact.
    """

    stage: str = ""
    fingerprint: str = ""
    inputs: dict[str, StageInput] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, str] | None = None
    started: str = ""
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    digest: str = ""
    files: dict[str, FileDigest] = Field(default_factory=dict)
