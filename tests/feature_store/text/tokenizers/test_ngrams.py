import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.text.tokenizers import ngrams
from feature_store.text.tokenizers.ngrams import Characters, NGrams

TEXTS = st.lists(st.text(st.sampled_from("ab中国 Ａé\u3000😀\0") | st.characters(), max_size=12), max_size=8)


def plain_grams(text: str, shortest: int, longest: int) -> list[str]:
    """A second implementation, character by character."""
    text = " ".join(unicodedata.normalize("NFKC", text.replace("\0", " ")).lower().split())
    text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    found = [text[place : place + size] for place in range(len(text)) for size in range(shortest, longest + 1)]
    sizes = [(place, size) for place in range(len(text)) for size in range(shortest, longest + 1)]
    return [gram for gram, (place, size) in zip(found, sizes, strict=True) if place + size <= len(text)]


def rows(indices: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [indices[start:end].tolist() for start, end in pairwise(offsets)]


def test_a_literal_case() -> None:
    tokenizer = NGrams(["a", "ab", "abc", "c"], max_length=9)
    indices, offsets = tokenizer.encode(["ABC", "", "c"])
    assert (indices.tolist(), offsets.tolist()) == ([5, 6, 7, 1, 1, 8, 8], [0, 6, 6, 7])
    assert (indices.dtype, offsets.dtype) == (np.int32, np.int64)


@given(TEXTS, st.sampled_from([(1, 1), (1, 2), (1, 3), (2, 3), (3, 3)]), st.integers(1, 30))
def test_counted_ngrams_equal_a_plain_count(texts: list[str], lengths: tuple[int, int], limit: int) -> None:
    shortest, longest = lengths
    tokenizer = NGrams.fit(texts, min_count=2, max_size=7, max_length=1000, shortest=shortest, longest=longest)
    counts = Counter(gram for text in texts for gram in plain_grams(text, shortest, longest))
    expected = sorted((gram for gram in counts if counts[gram] >= 2), key=lambda gram: (-counts[gram], gram))[:7]
    assert tokenizer.tokens == expected
    cut = NGrams(expected, max_length=limit, shortest=shortest, longest=longest)
    index = {gram: 5 + place for place, gram in enumerate(expected)}
    assert rows(*cut.encode(texts)) == [[index.get(gram, 1) for gram in plain_grams(text, shortest, longest)[:limit]] for text in texts]


@given(TEXTS)
def test_a_batch_reads_as_its_texts_do(texts: list[str]) -> None:
    tokenizer = NGrams([], max_length=20, buckets=64)
    assert rows(*tokenizer.encode(texts)) == [rows(*tokenizer.encode([text]))[0] for text in texts]


def test_texts_beyond_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["中国新闻", "a" * 30, "", "b c"] * 9
    whole = NGrams.fit(texts, min_count=1, max_size=100, max_length=12)
    monkeypatch.setattr(ngrams, "_BATCH", 10)
    parts = NGrams.fit(texts, min_count=1, max_size=100, max_length=12)
    assert parts.tokens == whole.tokens and rows(*parts.encode(texts)) == rows(*whole.encode(texts))


def test_the_hash_is_the_same_always() -> None:
    """These buckets stand in exported students."""
    tokenizer = NGrams.from_dict({"kind": "ngrams", "max_length": 9, "lowercase": True, "shortest": 1, "longest": 2, "buckets": 1000}, [])
    assert len(tokenizer.tokens) == 1000
    assert (
        tokenizer.encode(["中国a"])[0].tolist()
        == [805, 587, 50, 339, 510]
        == [5 + plain_hash(gram) % 1000 for gram in ("中", "中国", "国", "国a", "a")]
    )


def plain_hash(gram: str) -> int:
    """Splitmix64 in Python's whole numbers."""
    whole = 2**64 - 1
    mixed = sum(ord(character) << (21 * place) for place, character in enumerate(gram)) + 0x9E3779B97F4A7C15 & whole
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & whole
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & whole
    return mixed ^ mixed >> 31


def test_buckets_fill_evenly() -> None:
    texts = [chr(0x4E00 + place) + chr(0x4E00 + (place * 7919) % 20_000) for place in range(20_000)]
    indices, _ = NGrams([], max_length=9, shortest=2, longest=2, buckets=100).encode(texts)
    counts = np.bincount(indices - 5, minlength=100)
    assert counts.sum() == 20_000 and abs(counts - 200).max() < 5 * np.sqrt(200)


def test_characters_have_no_spaces() -> None:
    tokenizer = Characters.fit(["中 国", "国ａ A"], min_count=1, max_size=9, max_length=3)
    assert tokenizer.tokens == ["a", "国", "中"]
    assert rows(*tokenizer.encode(["a 国\u3000中中", "x\ud83dA"])) == [[5, 6, 7], [1, 1, 5]]
    assert tokenizer.to_dict() == {"kind": "characters", "max_length": 3, "lowercase": True}
    assert Characters.from_dict(tokenizer.to_dict(), tokenizer.tokens).encode(["国"])[0].tolist() == [6]


def test_case_can_matter() -> None:
    assert NGrams(["A"], max_length=9, longest=1, lowercase=False).encode(["aA"])[0].tolist() == [1, 5]


def test_a_very_long_text_is_cut() -> None:
    indices, _ = NGrams(["字"], max_length=7).encode(["字" * 10_000])
    assert indices.tolist() == [5, 1, 1, 5, 1, 1, 5]


def test_lengths_that_no_code_holds() -> None:
    with pytest.raises(ValueError, match="1 to 3 characters, not 1 to 4"):
        NGrams([], max_length=9, longest=4)
