"""Where a registered student comes from, and the list of its files: two JSON files inside the registered model."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from feature_store.features.summary import SplitTimes
from feature_store.tables.json_models import JsonFile, JsonModel
from pipelines.metrics import Shipping
from pipelines.workspace.manifest import StageInput


class DataLineage(JsonModel):
    """Digests of the events, and of the rows that were assembled of them."""

    digest: str | None = None
    rows: str | None = None


class ConfigurationLineage(JsonModel):
    """The keys that each stage read, by stage, and their digest."""

    digest: str | None = None
    keys: dict[str, dict[str, Any]] = Field(default_factory=dict)


class TeacherLineage(JsonModel):
    """The fine-tuned teacher; ``checkpoint`` has the digests of a released BERT that it began with."""

    fingerprint: str | None = None
    digest: str | None = None
    checkpoint: dict[str, Any] | None = None


class StudentLineage(JsonModel):
    """The student itself: digest of the names and bytes of all that was exported, and of each file."""

    digest: str | None = None
    files: dict[str, str] = Field(default_factory=dict)


class Lineage(JsonFile):
    """Where a registered student comes from.

    Attributes
    ----------
    data : DataLineage
    configuration : ConfigurationLineage
    teacher : TeacherLineage
    artifacts : dict of str to StageInput
        Of every earlier stage.
    shipped : str or None
        Which student it is: ``student``, or ``student_alone``, which had no teacher; None as for release 0.1, the first.
    shipping : Shipping or None
        Why it is that one.
    validation_scores : dict or None
        Of :class:`ctr_kd.metrics.drift.ScoreDistribution`; None for a student that was registered without.
    versions : dict of str to str
        Of Python and of packages.
    code_revision : str or None
        Commit of the code, where it ran from a repository.
    student : StudentLineage
    split : SplitTimes, optional
        Windows of the rows that it learned from; None for texts, and for a student of release 0.2.
    parent : dict, optional
        The run that its training continued (:class:`pipelines.workspace.parent.Parent`); None where it began anew.
    statistics : dict, optional
        Settings of the statistics of these rows, what ``statistics.auto`` added among them; None likewise.
    teacher_state : dict, optional
        Settings of the teacher's states of these rows, with the name of the encoder that makes them; absent where they read none.
    """

    FILE: ClassVar[str] = "lineage.json"

    data: DataLineage = Field(default_factory=DataLineage)
    configuration: ConfigurationLineage = Field(default_factory=ConfigurationLineage)
    teacher: TeacherLineage = Field(default_factory=TeacherLineage)
    artifacts: dict[str, StageInput] = Field(default_factory=dict)
    shipped: str | None = None
    shipping: Shipping | None = None
    validation_scores: dict[str, Any] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    code_revision: str | None = None
    student: StudentLineage = Field(default_factory=StudentLineage)
    split: SplitTimes | None = None
    parent: dict[str, Any] | None = None
    statistics: dict[str, Any] | None = None
    teacher_state: dict[str, Any] | None = None


class Contents(JsonFile):
    """Every file of a model but this one, with its sha256; the registry keeps the digest of this file."""

    FILE: ClassVar[str] = "contents.json"

    files: dict[str, str]
