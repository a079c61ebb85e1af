"""Text from outside as it may be shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.plain_text import plain

HOSTILE = ["\x1b[31mred\x1b[0m", "a\nctr-kd: done", "a\rb", "\x07", "\x9b31m", "a\u202eb", "a\u2028b", "\ud800", "\x00", "\x7f"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_acts_on_a_terminal_or_ends_a_line(text: str) -> None:
    assert plain(text).isprintable() and plain(text) != text


@given(st.text())
def test_any_text_becomes_one_line(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1 and not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()
    assert plain(shown) == shown
