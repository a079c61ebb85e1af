from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertTokenizer

from feature_store.special_tokens import SPECIALS
from feature_store.text.tokenizers.wordpiece import WordPiece

LINES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"),
    *(
        "中",
        "国",
        "新",
        "闻",
        "!",
        "！",
        "?",
        "。",
        "-",
        "$",
        "'",
        "[",
        "]",
        "mask",
        "cls",
        "play",
        "##ing",
        "##s",
        "un",
        "##able",
        "##aff",
    ),
    *(
        "eleve",
        "##s!",
        "a",
        "b",
        "c",
        "##a",
        "##b",
        "##c",
        "1",
        "2",
        "##1",
        "##2",
        "2018",
        "i",
        "##i",
        "σ",
        "##σ",
        "ς",
        "が",
        "か",
        "한",
        "😀",
    ),
]
HARD = [
    "",
    " \t\r\n\u3000\xa0 ",
    "中国NEWS新闻！playing plays unaffable",
    "Élève ÉLÈVES e\u0301le\u0300ve",
    "a\0b a\ufffdb a\u200bb a\x07b a\u00adb",
    "😀 a😀b 👨‍👩‍👧 \U0001f1e8\U0001f1f3",
    "ΑΣ Σ σς İi ǅ ﬁ Ⅷ ½",
    "a" * 100,
    "a" * 101,
    "中" * 300,
    "$a^b`c~ a-b's «a» …",
    "가힣한 がカ゛",
    "\U00020000\U0002b740\U0002ceaf 㐀 豈",
    "２０１８ ａｂ",
    "a\u2028b\u2029c\x85d",
    "[unused1] ##ing",
]


@pytest.fixture(scope="module")
def pair() -> tuple[WordPiece, Tokenizer]:
    return build(LINES)


def build(lines: list[str], lowercase: bool = True) -> tuple[WordPiece, Tokenizer]:
    """Ours and what transformers runs behind its BertTokenizer."""
    theirs = BertTokenizer(vocab={token: place for place, token in enumerate(lines)}, do_lower_case=lowercase)
    return WordPiece.from_lines(lines, max_length=1 << 20, lowercase=lowercase), theirs.backend_tokenizer


def of_ours(ours: WordPiece, texts: list[str]) -> list[list[str]]:
    names = [*SPECIALS, *ours.tokens]
    indices, offsets = ours.encode(texts)
    return [[names[index] for index in indices[start:end]] for start, end in pairwise(offsets)]


def of_theirs(theirs: Tokenizer, texts: list[str]) -> list[list[str]]:
    return [encoding.tokens for encoding in theirs.encode_batch(texts, add_special_tokens=False)]


def test_a_literal_case() -> None:
    tokenizer = WordPiece.from_lines(["[UNK]", "[PAD]", "中", "play", "##ing"], max_length=4)
    indices, offsets = tokenizer.encode(["Playing中国", "", "中中中中中"])
    assert (indices.tolist(), offsets.tolist()) == ([6, 7, 5, 1, 5, 5, 5, 5], [0, 4, 4, 8])
    assert (indices.dtype, offsets.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("lowercase", [True, False])
def test_hard_cases_equal_transformers(lowercase: bool) -> None:
    ours, theirs = build(LINES, lowercase)
    for text, mine, expected in zip(HARD, of_ours(ours, HARD), of_theirs(theirs, HARD), strict=True):
        assert mine == expected, repr(text)


@given(st.lists(st.text(st.sampled_from("中国a1bc2ÉéΣ-'!！ \t\u0301\u200b😀がplayings")) | st.text(max_size=30), max_size=5))
def test_any_text_equals_transformers(pair: tuple[WordPiece, Tokenizer], texts: list[str]) -> None:
    texts = [text for text in texts if not any(special in text for special in SPECIALS) and all(map(_settled, text))]
    assert of_ours(pair[0], texts) == of_theirs(pair[1], texts)


def _settled(character: str) -> bool:
    """Whether two versions of Unicode agree on a character, see the test of every one."""
    return ord(character) < 0x600 or 0x2000 <= ord(character) < 0x2E00 or 0x3000 <= ord(character) < 0xA600


def test_every_character_is_cut_as_by_transformers() -> None:
    """Python's tables know more recent characters than those of the tokenizers library; no vocabulary of BERT has them."""
    ours, theirs = build(["[UNK]", "a", "b"])
    points = [point for point in (*range(0x31400), *range(0xE0000, 0xE0200)) if not 0xD800 <= point <= 0xDFFF]  # others are unassigned
    normalise, cut = theirs.normalizer.normalize_str, theirs.pre_tokenizer.pre_tokenize_str
    differ = []
    for start in range(0, len(points), 1000):
        texts = [f"a{chr(point)}b" for point in points[start : start + 1000]]
        joined = " ".join(texts)
        if ours.words(joined) != [word for word, _ in cut(normalise(joined))]:
            differ += [text[1] for text in texts if ours.words(text) != [word for word, _ in cut(normalise(text))]]
    assert len(differ) < 800 and all(not _settled(character) or character == "\u2e55" for character in differ)


def test_special_tokens_in_a_text_are_text(pair: tuple[WordPiece, Tokenizer]) -> None:
    assert of_ours(pair[0], ["a[MASK]b [SEP]"]) == [["a", "[", "mask", "]", "b", "[", "[UNK]", "]"]]


def test_half_a_surrogate_pair_is_dropped(pair: tuple[WordPiece, Tokenizer]) -> None:
    assert of_ours(pair[0], ["中\ud83d国"]) == [["中", "国"]]


def test_a_fitted_vocabulary_has_frequent_words_and_characters() -> None:
    texts = ["abc abc 中国", "中国 ab", "abd xyz"]
    tokenizer = WordPiece.fit(texts, min_count=2, max_size=100, max_length=9)
    assert tokenizer.tokens == ["##b", "a", "##c", "abc", "中", "国"]
    assert tokenizer.tokens == WordPiece.fit(texts[::-1], min_count=2, max_size=100, max_length=9).tokens
    assert of_ours(tokenizer, ["abc abb xyz 国"]) == [["abc", "a", "##b", "##b", "[UNK]", "国"]]
    assert WordPiece.fit(texts, min_count=2, max_size=2, max_length=9).tokens == ["##b", "a"]


def test_a_rebuilt_tokenizer_reads_the_same(pair: tuple[WordPiece, Tokenizer]) -> None:
    again = WordPiece.from_dict(pair[0].to_dict(), pair[0].tokens)
    assert of_ours(again, HARD) == of_ours(pair[0], HARD)


@pytest.mark.parametrize(("lines", "message"), [(["[PAD]", "a"], r"no \[UNK\]"), (["[UNK]", "a", "a"], "holds 'a' twice")])
def test_a_vocabulary_that_cannot_be_used(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordPiece.from_lines(lines, max_length=9)


@pytest.mark.real_data("text")
def test_every_title_of_tnews_equals_transformers(real_data: Path) -> None:
    ours, theirs = build((real_data / "seed_tnews5" / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    lines = [line for name in ("train", "dev") for line in (real_data / "tnews" / f"{name}.tsv").read_text(encoding="utf-8").split("\n")]
    texts = [line.split("\t")[0] for line in lines if line]
    wrong = [text for text, a, b in zip(texts, of_ours(ours, texts), of_theirs(theirs, texts), strict=True) if a != b]
    assert len(texts) == 63_360 and not wrong


def test_a_word_of_megabytes_is_not_remembered() -> None:
    """Nor is what no token is kept of looked at: texts come from outside."""
    tokenizer = WordPiece(["play"], max_length=2)
    assert tokenizer.encode(["x" * 10_000_000, "play play never seen"])[0].tolist() == [1, 5, 5]
    assert list(tokenizer._pieces) == ["play"]
