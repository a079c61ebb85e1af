"""What the manifest of a folder of scores says, and the report beside the scores."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ctr_kd.export.scoring_statistics import ScoringSummary
from feature_store.tables.json_models import JsonModel
from pipelines.workspace.manifest import FileDigest


class ScoringReport(ScoringSummary):
    """What a scoring saw and how fast it was. Of a date of which only each user's best are kept, more rows are scored than kept.

    Attributes
    ----------
    seconds : float
    resumed_rows : int
        That an earlier, killed run had scored: they took none of the seconds.
    rows_per_second : float
    """

    seconds: float
    resumed_rows: int
    rows_per_second: float


class PartitionSource(JsonModel):
    """What the scores of a date depend on besides the model: a later day of the log is not among it.

    Attributes
    ----------
    events : dict of str to str
        sha256 of every event partition up to the date, by date, since histories reach back.
    users : str or None
        Of the users, whose attributes a model may read; None for a log without users.
    items : str or None
        Of the items, where rows look something up in their table; else None.
    contract : str
        Digest of what the log offers.
    settings : dict
        Configuration keys with their values.
    as_of : str or None
        Logical time, ISO 8601, where it hides a row of these partitions; else None.
    ahead : bool
        The date had no event yet: what comes on it is what the scores were for, and does not make them stale.
    """

    events: dict[str, str] = Field(default_factory=dict)
    users: str | None = None
    items: str | None = None
    contract: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    as_of: str | None = None
    ahead: bool = False


class SeenInTraining(JsonModel):
    """How far a date's rows lie in a window that the model learned from.

    Attributes
    ----------
    window : "training" or "validation"
        The one that more of the date lies in.
    share : float
        Of the date's hours, in both windows together.
    """

    window: str
    share: float

    @property
    def mostly(self) -> bool:
        """Whether figures of the date say more of what was learned than of what is to come."""
        return self.share > 0.5


class ScoresManifest(JsonModel):
    """The manifest of a folder of scores.

    Attributes
    ----------
    date, split : str, optional
        What was scored: a date, or a split of texts.
    rows : int
        That the folder holds.
    model, model_uri, model_version : str
        Which model scored: its name, how it was asked for, and its version.
    fingerprint : str
        Of the stage that scored.
    made_from : PartitionSource, optional
        Of a date.
    seen_in_training : SeenInTraining, optional
        Where the model learned from rows of the date; None where it did not, or its windows are not known.
    report : ScoringReport
    files : dict of str to FileDigest
    """

    date: str | None = None
    split: str | None = None
    rows: int
    model: str
    model_uri: str = ""
    model_version: str
    fingerprint: str = ""
    made_from: PartitionSource | None = None
    seen_in_training: SeenInTraining | None = None
    report: ScoringReport
    files: dict[str, FileDigest] = Field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What was scored by which model, with the report, as JSON."""
        shown = {"date", "split", "rows", "model", "model_uri", "model_version"}
        return {name: value for name, value in self.to_json().items() if name in shown} | self.report.to_json()


class FailedAttempt(JsonModel):
    """A date that could not be scored: why, with which exit code, and when."""

    date: str
    reason: str
    code: int = 1
    when: str = ""
