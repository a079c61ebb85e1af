"""Text from outside as it may be shown: names, ids and messages of other programs hold whatever somebody put there."""

from __future__ import annotations

import unicodedata

_SHOWN_AS_THEY_ARE = {"\u200c", "\u200d"}  # joiners, which some scripts are written with


def plain(text: str) -> str:
    r"""One line in which nothing acts on a terminal, ends a log line or turns what is read around.

    Control characters, ends of lines, marks of direction and halves of surrogate pairs are shown as in Python's own text.

    Examples
    --------
    >>> print(plain("a\x1b[2Jb\nc\u202ed"), plain("naïve 中文 🙂"))
    a\x1b[2Jb\nc\u202ed naïve 中文 🙂
    """
    if text.isprintable():
        return text
    return "".join(character if _is_shown(character) else character.encode("unicode_escape").decode() for character in text)


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _SHOWN_AS_THEY_ARE
