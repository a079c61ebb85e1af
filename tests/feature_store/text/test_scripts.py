"""Texts whose words a space sets apart, and those of which it does not."""

from __future__ import annotations

import pytest

from feature_store.text.scripts import has_spaced_words


@pytest.mark.parametrize(
    ("texts", "spaced"),
    [
        (["very bad quality .", "完美"], True),
        (["очень плохо", "très mauvais", "πολύ καλό"], True),
        (["苹果发布新 iPhone，价格 999", "如何评价"], False),
        (["とても良いです"], False),
        (["ดีมาก"], False),
        (["정말 좋아요"], False),
        (["123 !!", ""], True),
        ([], True),
    ],
)
def test_scripts(texts: list[str], spaced: bool) -> None:
    assert has_spaced_words(texts) is spaced
