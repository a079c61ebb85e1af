"""What pretraining learns from: sequences of tokens of somebody, and the vocabulary that they are predicted from."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ctr_kd.data.samples import Segment, Signature


class TokenSequences(Protocol):
    """Sequences by user or text; assemblies of clicks and of texts are such, and the clicks that an encoder of states reads."""

    def signature(self) -> Signature:
        """Names and sizes of the inputs."""

    def vocabulary_tokens(self) -> np.ndarray:
        """Token, int32 (vocabulary, features), of every index of the first token feature."""

    def sequences(self, until: int | None, overlap: float = 0.0) -> Segment:
        """Sequences of two tokens and more, known before a time (microseconds UTC) where one is given."""

    def users_of(self, sequences: Segment) -> np.ndarray:
        """Whose each of :meth:`sequences` is, int (sequences,)."""
