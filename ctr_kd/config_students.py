"""Typed settings of the students, ours and those of plug-ins."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from feature_store.config_types import Config
from feature_store.plugins import PluginError, load_class

STUDENT_KINDS = ("pooled", "bilstm", "bilstm_pair", "din", "dcn")
"""Students that come with the project; others are plug-ins."""
COMBINING = ("pooled", "dcn")
"""Students that sum up a segment's embeddings."""


def student_plugin(kind: str) -> type[Any]:
    """Class of a plug-in student.

    Raises
    ------
    PluginError
        When there is none of that name, or it is not what :class:`ctr_kd.models.students.Student` says.
    """
    plugin = load_class("ctr_kd.students", kind, ("forward",), STUDENT_KINDS)
    settings = getattr(plugin, "Settings", StudentSettings)
    if not (isinstance(settings, type) and issubclass(settings, StudentSettings)):
        raise PluginError(
            f"the student {kind!r} has settings that are no class on top of ctr_kd.models.StudentSettings: {settings!r}"[:300]
        )
    return plugin


def _is_a_student(kind: str) -> str:
    if kind not in STUDENT_KINDS:
        student_plugin(kind)
    return kind


StudentKind = Annotated[str, AfterValidator(_is_a_student)]


class StudentSettings(Config):
    """What every student has; a plug-in adds keys of its own."""

    kind: StudentKind = Field("pooled", description="name of the student")
    width: int = Field(32, ge=2, description="embedding width, which `sweep` varies")

    @classmethod
    def reads(cls, values: Any) -> type[StudentSettings]:
        """The class that reads a block of settings, by the kind in it."""
        kind = values.get("kind") if isinstance(values, dict) else None
        if not isinstance(kind, str) or kind in STUDENT_KINDS:
            return StudentConfig
        try:
            return getattr(student_plugin(kind), "Settings", StudentSettings)
        except PluginError:
            return UnknownStudent


class UnknownStudent(StudentSettings):
    """Settings of a kind that there is not: the kind alone is wrong, since what other keys it has nobody knows."""

    model_config = ConfigDict(extra="allow")


class StudentConfig(StudentSettings):
    """Kind and size of one of our own students."""

    kind: StudentKind = Field(
        "pooled",
        description="pooled: summed embeddings; bilstm: one bidirectional LSTM over the history; bilstm_pair: the same LSTM over both "
        "segments; din: attention of the candidate to each click; dcn: cross network over summed embeddings and context",
    )
    width: int = Field(
        32, ge=2, description="embedding width; so wide are an LSTM's state per direction, din's attention, and the rank of dcn's crosses"
    )
    hidden: int = Field(
        64,
        ge=0,
        description="width of the head's first hidden layer, the second has half of it; 0: none, logits are linear in what the segments "
        "and the context come to, as in fastText (Joulin et al. 2017)",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the head's first hidden layer")
    combiner: Literal["mean", "sqrtn"] = Field(
        "mean",
        description="pooled and dcn: a segment's embeddings are summed and divided by their number, or by its root, as TF-IDF's norm does; "
        "then a few telling tokens among many count for more, which texts of n-grams want",
    )

    recency: bool = Field(
        True,
        description="pooled and dcn, of clicks: a layer of the newest ones is added to the mean of a history, so that their order counts; "
        "false: the mean alone, which knows no order",
    )

    @model_validator(mode="after")
    def _head_has_layers(self) -> StudentConfig:
        if self.hidden == 0 and self.dropout != type(self).model_fields["dropout"].default:
            raise ValueError("dropout has no effect with hidden: 0, which has no hidden layer; remove it")
        if self.hidden == 1:
            raise ValueError("hidden: 1 leaves nothing for the second hidden layer; set 2 or more, or 0 for a linear head")
        return self

    @model_validator(mode="after")
    def _combines(self) -> StudentConfig:
        if self.combiner != "mean" and self.kind not in COMBINING:
            raise ValueError(f"combiner has no effect with kind: {self.kind}; remove it, or set kind: {' or '.join(COMBINING)}")
        return self


def sums_up_histories(kind: str) -> bool:
    """Whether a kind of student has one vector of a history, whatever the candidate: ``encode`` and ``score`` beside ``forward``."""
    if kind in STUDENT_KINDS:
        return kind != "din"
    return all(callable(getattr(student_plugin(kind), method, None)) for method in ("encode", "score"))
