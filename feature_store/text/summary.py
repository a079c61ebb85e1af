"""``summary.json`` of an assembly of texts: how many rows there are, and what its two readers see of them."""

from __future__ import annotations

from typing import ClassVar

from feature_store.tables.json_models import JsonFile, JsonModel


class VectorCounts(JsonModel):
    """How many tokens of a vocabulary have a word vector.

    Attributes
    ----------
    dimensions : int
        Of each vector.
    exact, folded, missing : int
        Tokens found as they are, found with other case or width, and not found.
    file_words : int
        Words in the file of vectors.
    """

    dimensions: int
    exact: int
    folded: int
    missing: int
    file_words: int


class ViewSummary(JsonModel):
    """What one reader, teacher or student, sees of the texts.

    Attributes
    ----------
    tokens : int
        Size of the vocabulary.
    mean_length, max_length : float, int
        Tokens of a text.
    empty : int
        First texts without any token.
    unseen_token_share : float
        Share of the tokens of the test rows that are unknown.
    vectors : VectorCounts, optional
        Absent where the tokenizer has no word vectors.
    """

    tokens: int
    mean_length: float
    max_length: int
    empty: int
    unseen_token_share: float
    vectors: VectorCounts | None = None


class TextSummary(JsonFile):
    """Counts of an assembly of texts.

    Attributes
    ----------
    rows : dict of str to int
        By split.
    classes : int
    pair : bool
        Rows have two texts.
    leaked : dict of str to int
        Validation and test rows whose text is also in an earlier split.
    unlabelled_left_out : int
        Unlabelled texts that are to be validated or tested on, and so are left out.
    views : dict of str to ViewSummary
        ``teacher`` and ``student``.
    unseen_token_share : float
        That of the student.
    """

    FILE: ClassVar[str] = "summary.json"

    rows: dict[str, int]
    classes: int
    pair: bool
    leaked: dict[str, int]
    unlabelled_left_out: int
    views: dict[str, ViewSummary]
    unseen_token_share: float
