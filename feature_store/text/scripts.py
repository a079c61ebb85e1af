"""Which scripts set words apart by spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul: its spaces part phrases, whose endings make too many of them
    "\u3040-\u30ff\u31f0-\u31ff"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "]"
)
_LETTER = re.compile(r"[^\W\d_]")


def has_spaced_words(texts: Sequence[str]) -> bool:
    """Whether most letters of texts are of scripts that set words apart by spaces; true where there are no letters.

    Examples
    --------
    >>> has_spaced_words(["the remote control is only so-so"]), has_spaced_words(["这款 iPhone 很好用，推荐"])
    (True, False)
    """
    unspaced = sum(len(_UNSPACED.findall(text)) for text in texts)
    return 2 * unspaced <= sum(len(_LETTER.findall(text)) for text in texts)
