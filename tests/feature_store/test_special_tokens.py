"""Files that are copied beside an exported student repeat the special tokens, and must agree with everybody else."""

import pytest

from feature_store.special_tokens import SPECIALS, UNKNOWN
from feature_store.text.tokenizers import ngrams, wordpiece, words


def test_their_places_are_those_of_their_names():
    assert SPECIALS.index("[UNK]") == UNKNOWN


@pytest.mark.parametrize("tokenizer", [ngrams, words])
def test_tokenizers_count_from_behind_them(tokenizer):
    assert (UNKNOWN, len(SPECIALS)) == (tokenizer.UNKNOWN, tokenizer.FIRST)


def test_word_pieces_have_the_same():
    assert (wordpiece.SPECIALS, wordpiece.UNKNOWN) == (SPECIALS, UNKNOWN)
