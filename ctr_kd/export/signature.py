"""``signature.json`` of an exported student: what its graph takes, and which raw columns it reads and answers.

Written here, and read here by everybody but the scorer inside a student, which needs nothing of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from feature_store.tables.json_files import load_json, write_text
from feature_store.tables.json_models import JsonFile, JsonModel


class RawColumns(JsonModel):
    """Columns of the rows that a student scores, and of its answer.

    Attributes
    ----------
    required, optional : list of str
    answer : dict of str to str
        MLflow's type of each column.
    """

    required: list[str]
    optional: list[str]
    answer: dict[str, str]


class ExportedSignature(JsonFile):
    """What every exported student says of itself.

    Attributes
    ----------
    inputs : dict of str to str
        Type, shape and meaning of each input of the graph.
    output : str
        Those of its output.
    special_tokens : list of str
        What every vocabulary begins with.
    tokens, categorical, dense, outputs, max_length, max_length_b
        As in :class:`ctr_kd.data.samples.Signature`.
    columns : RawColumns
    """

    FILE: ClassVar[str] = "signature.json"

    inputs: dict[str, str]
    output: str
    special_tokens: list[str]
    tokens: dict[str, int]
    categorical: dict[str, int]
    dense: dict[str, list[float]]
    outputs: int
    max_length: int
    max_length_b: int

    def write(self, folder: Path) -> None:
        """Write the file of a folder, indented by two: its bytes are part of a student's digest, and stay as they have been."""
        write_text(folder / self.FILE, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")


class ClickSignature(ExportedSignature):
    """Of a student of clicks.

    Attributes
    ----------
    gap_buckets : int
        Of the time between two clicks.
    user_attributes : list of str
        Those of the categorical columns that describe the user.
    looked_up : list of str
        Those that a feature store knows as of a time, of item and user.
    negative_sampling_rate : float, optional
        Share of the rows without a click that the log kept, for which scores are corrected; None where it kept all.
    has_types : bool
        Whether histories say of which type each of their events was, in the column ``history_types``.
    title_encoder : str, optional
        Digest of what made the vectors of titles.
    vectors : dict of str to int
        Width of those of the tokens and categorical columns that are vectors from elsewhere.
    labels : list of str
        Further labels beside the click: the outputs after the first are their logits, and answers have a column ``score_NAME`` of each.
    columns : RawColumns
    """

    gap_buckets: int
    user_attributes: list[str] = Field(default_factory=list)
    looked_up: list[str] = Field(default_factory=list)
    negative_sampling_rate: float | None = None
    has_types: bool = False
    title_encoder: str | None = None
    vectors: dict[str, int] = Field(default_factory=dict)
    labels: list[str] = Field(default_factory=list)
    columns: RawColumns


def score_column(label: str) -> str:
    """The column of an answer that has the probability of a further label."""
    return f"score_{label}"


class TextSignature(ExportedSignature):
    """Of a student of texts.

    Attributes
    ----------
    classes : list of str
        By index.
    class_columns : list of str
        Name of the column in which each class has its probability.
    packages : list of str
        What the tokenizer needs of a registry besides numpy.
    columns : RawColumns
    """

    classes: list[str]
    class_columns: list[str]
    packages: list[str] = Field(default_factory=list)
    columns: RawColumns


def signature_of(content: dict[str, Any]) -> ClickSignature | TextSignature:
    """The signature that a ``signature.json`` holds.

    Raises
    ------
    ValueError
        When it is none. The message is one line.
    """
    return TextSignature.from_json(content) if "classes" in content else ClickSignature.from_json(content)


def read_signature(folder: Path) -> ClickSignature | TextSignature:
    """The signature of an exported student.

    Raises
    ------
    OSError
        When the folder has none.
    ValueError
        When the file holds something else.
    """
    return signature_of(load_json(folder / ExportedSignature.FILE))
