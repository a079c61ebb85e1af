"""The run that a warm run continues: which artifacts its models begin with. It lies in the artifact of stage ``ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from feature_store.tables.json_models import IsoTime, JsonFile
from pipelines.workspace.manifest import StageInput

DATES = "dates.json"  # in an artifact of ``ingest``: digest of each date of the store, as it was


class Parent(JsonFile):
    """An earlier run, as one that continues it knows it.

    Attributes
    ----------
    name : str
        A version of the registry, or a night of a backtest.
    since : datetime
        Where its training window ended: what is later is new to its models.
    cold_since : datetime
        Where the training window of the last night ended that began cold.
    nights : int
        Warm nights since, with the one that continues it.
    artifacts : dict of str to StageInput
        Of its stages ``ingest``, ``pretrain``, ``finetune`` and ``distill``.
    late : list of str
        Dates that it learned and that were corrected since.
    members : int
        Fine-tunings of each encoder that are its teacher.
    """

    FILE: ClassVar[str] = "parent.json"

    name: str
    since: IsoTime
    cold_since: IsoTime
    nights: int
    artifacts: dict[str, StageInput]
    late: list[str] = Field(default_factory=list)
    members: int = 1

    def folder(self, workspace: Path, stage: str) -> Path:
        """Artifact of one of its stages."""
        return workspace / "artifacts" / stage / str(self.artifacts[stage].fingerprint)

    @property
    def decides(self) -> dict[str, Any]:
        """All of it that decides what a night makes: not what it is called."""
        return {name: value for name, value in self.to_json().items() if name != "name"}

    def input(self, stage: str) -> dict[str, str]:
        """One of its artifacts as another artifact's input from outside."""
        one = self.artifacts[stage]
        return {f"{stage}/{one.fingerprint}": str(one.digest)}


def parent_of(ingest: Path) -> Parent | None:
    """The parent of a run, by its artifact of stage ``ingest``; None where it began anew."""
    return Parent.read(ingest) if (ingest / Parent.FILE).is_file() else None
