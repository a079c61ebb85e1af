"""Texts that are cut into words, and those that are not."""

from __future__ import annotations

import pytest

from feature_store.text.scripts import has_ascii_words


@pytest.mark.parametrize(
    ("texts", "ascii_words"),
    [
        (["very bad quality .", "完美"], True),
        (["очень плохо"], False),
        (["très mauvais"], True),
        (["苹果发布新 iPhone，价格 999", "如何评价"], False),
        (["とても良いです"], False),
        (["ดีมาก"], False),
        (["정말 좋아요"], False),
        (["123 !!", ""], True),
        ([], True),
    ],
)
def test_scripts(texts: list[str], ascii_words: bool) -> None:
    assert has_ascii_words(texts) is ascii_words
