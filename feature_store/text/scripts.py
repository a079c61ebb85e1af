"""Which texts are cut into words."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LETTER = re.compile(r"[^\W\d_]")
_ASCII_LETTER = re.compile(r"[A-Za-z]")


def has_ascii_words(texts: Sequence[str]) -> bool:
    """Whether most letters of texts are ASCII; true where there are no letters.

    Of those the tokenizer ``words`` makes whole words. Of other alphabets it makes single letters, and of Chinese n-grams tell more.

    Examples
    --------
    >>> has_ascii_words(["the remote control is only so-so"]), has_ascii_words(["这款 iPhone 很好用，推荐"])
    (True, False)
    """
    return 2 * sum(len(_ASCII_LETTER.findall(text)) for text in texts) >= sum(len(_LETTER.findall(text)) for text in texts)
