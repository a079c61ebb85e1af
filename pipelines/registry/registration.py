"""What the stage ``register`` says of a student: its version, and what the promotion gate asked and decided."""

from __future__ import annotations

from typing import ClassVar

from feature_store.tables.json_models import JsonFile
from pipelines.registry.promotion_gate import Check, Gate


class Registration(JsonFile):
    """A version of a registered model, and the gate's decision on it.

    Attributes
    ----------
    name, version, uri : str
        Registered model, its version, and both as MLflow writes them.
    student_digest : str
        Of the names and bytes of all that was exported.
    gate : Gate
    """

    FILE: ClassVar[str] = "registration.json"

    name: str
    version: str
    uri: str
    student_digest: str
    gate: Gate


class GateAnswers(JsonFile):
    """What the gate asked, with the answers: kept until the challenger is registered, so that a killed run does not ask again.

    Attributes
    ----------
    student : str
        Digest of the challenger.
    champion : str or None
        Version that it was compared with.
    checks : list of Check
    """

    FILE: ClassVar[str] = "gate.json"

    student: str
    champion: str | None
    checks: list[Check]
