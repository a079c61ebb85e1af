"""New texts made of given ones, after Tang et al. (2019), section 4.3."""

from __future__ import annotations

from functools import cache
from typing import Any

import jieba.posseg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from feature_store.config import AugmentationConfig, TokenizerConfig
from feature_store.text.augmentation import LONGEST_NGRAM, MASKED, Augmenter
from feature_store.text.tokenizers import fit_tokenizer
from feature_store.text.tokenizers.words import cutter

TEXTS = ["我爱北京天安门", "他恨上海的天气", "北京大学在北京", "hello world 很好", "她喜欢漂亮的花"]


def rates(mask: float = 0.0, replace: float = 0.0, ngram: float = 0.0) -> AugmentationConfig:
    return AugmentationConfig(mask_rate=mask, replace_rate=replace, ngram_rate=ngram)


@cache
def tagger() -> Any:
    return jieba.posseg.POSTokenizer(cutter())


def test_masked_words_are_hidden_and_everything_else_stays() -> None:
    for place, text, second in Augmenter(TEXTS, None, rates(mask=0.5)).draw(100, 0):
        assert second is None and MASKED in text
        rest = iter(TEXTS[place])
        assert all(letter in rest for letter in text.replace(MASKED, ""))  # in their order


def test_a_hidden_word_is_unknown_to_every_tokenizer() -> None:
    for config in (TokenizerConfig(kind=kind, min_count=1, max_length=9) for kind in ("characters", "ngrams", "words", "wordpiece")):
        tokenizer = fit_tokenizer(config, TEXTS)
        assert set(tokenizer.encode([MASKED])[0].tolist()) == {1}, config.kind


def test_words_are_replaced_by_words_of_the_same_part_of_speech_that_the_texts_hold() -> None:
    texts = ["我 爱 北京", "我 恨 上海", "我 爱 上海"]
    known = {(pair.word, pair.flag) for text in texts for pair in tagger().cut(text)}
    drawn = Augmenter(texts, None, rates(replace=1.0)).draw(50, 1)
    assert drawn
    for place, text, _ in drawn:
        words = text.split()
        old = texts[place].split()
        kinds = dict(known)
        assert len(words) == len(old) and [kinds[word] for word in words] == [kinds[word] for word in old]


def test_ngram_sampling_keeps_words_in_a_row() -> None:
    drawn = Augmenter(TEXTS, None, rates(ngram=1.0)).draw(200, 2)
    assert drawn and all(text in TEXTS[place] and len(tagger().lcut(text)) <= LONGEST_NGRAM + 1 for place, text, _ in drawn)


def test_of_a_pair_the_first_is_changed_the_second_or_both() -> None:
    texts = [f"{text}{i}" for i, text in enumerate(TEXTS)]
    drawn = Augmenter(texts, TEXTS, rates(mask=1.0)).draw(15, 3)
    ways = {(one != texts[place], two != TEXTS[place]) for place, one, two in drawn}
    assert ways == {(True, False), (False, True), (True, True)}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("北京我爱你ab 1", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=6), st.integers(0, 99))
def test_draws_are_new_repeatable_and_never_empty(texts: list[str], seed: int) -> None:
    config = rates(0.2, 0.3, 0.3)
    drawn = Augmenter(texts, None, config).draw(30, seed)
    assert drawn == Augmenter(texts, None, config).draw(30, seed)
    found = [text for _, text, _ in drawn]
    assert len(set(found)) == len(found) and not set(found) & set(texts) and all(text.strip() for text in found)


def test_forbidden_texts_are_never_drawn() -> None:
    augmenter = Augmenter(TEXTS, None, rates(ngram=1.0))
    found = {text for _, text, _ in augmenter.draw(100, 0)}
    assert {"北京"} <= found and "北京" not in {text for _, text, _ in augmenter.draw(100, 0, {"北京"})}
    assert Augmenter([], None, rates(mask=1)).draw(5, 0) == []


def test_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="together they must not exceed 1"):
        AugmentationConfig(mask_rate=0.7, replace_rate=0.7)
    with pytest.raises(ValidationError, match="no text is changed"):
        AugmentationConfig(amount=1, mask_rate=0, replace_rate=0, ngram_rate=0)
