import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.contracts import DataError
from feature_store.text.word_vectors import read_vectors

TEXT = "4 2\n中国 1 2\nNBA -0.5 3e-1\nnba 7 8\nb 5 6\n"


def binary(words: list[str], vectors: np.ndarray, newline: bool = True) -> bytes:
    """As gensim writes it: with a line feed after each word in older files, without it in newer ones."""
    end = b"\n" if newline else b""
    rows = (word.encode() + b" " + vector.astype("<f4").tobytes() + end for word, vector in zip(words, vectors, strict=True))
    return f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(rows)


def test_text(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(TEXT)
    (tmp_path / "words.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    for name in ("words.txt", "words.txt.gz"):
        found = read_vectors(tmp_path / name, ["b", "nothing", "中国"])
        assert found.vectors.dtype == np.float32 and found.vectors[[0, 2]].tolist() == [[5, 6], [1, 2]] and np.isnan(found.vectors[1]).all()
        assert (found.exact, found.folded, found.missing, found.file_words) == (2, 0, 1, 4)


def test_a_word_in_other_letters_serves_until_the_word_itself_comes(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(TEXT)
    assert read_vectors(tmp_path / "words.txt", ["nba"]).vectors.tolist() == [[7, 8]]
    (tmp_path / "words.txt").write_text("3 1\nＮＢＡ 1\nNBA 2\nNba 3\n")
    found = read_vectors(tmp_path / "words.txt", ["nba"])
    assert found.vectors.tolist() == [[1]] and (found.exact, found.folded, found.missing) == (0, 1, 0)


@pytest.mark.parametrize("newline", [True, False])
def test_binary(tmp_path: Path, newline: bool) -> None:
    vectors = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    (tmp_path / "words.bin").write_bytes(binary(["中国", "b"], vectors, newline))
    found = read_vectors(tmp_path / "words.bin", ["b", "中国"])
    assert found.vectors.tolist() == vectors[::-1].tolist() and found.missing == 0


@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1), st.floats(-9, 9, width=32), max_size=6))
def test_both_layouts_tell_the_same(tmp_path_factory: pytest.TempPathFactory, words: dict[str, float]) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    vectors = np.array([[value, -value] for value in words.values()], np.float32).reshape(-1, 2)
    (folder / "words.bin").write_bytes(binary(list(words), vectors))
    lines = "".join(f"{word} {x!r} {y!r}\n" for word, (x, y) in zip(words, vectors.astype(float).tolist(), strict=True))
    (folder / "words.txt").write_text(f"{len(words)} 2\n{lines}", encoding="utf-8", newline="\n")
    assert np.array_equal(read_vectors(folder / "words.bin", list(words)).vectors, vectors)
    assert np.array_equal(read_vectors(folder / "words.txt", list(words)).vectors, vectors)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.txt", b"a 1 2\nb 1 2\n", r"w.txt: its first line is 'a 1 2', not the numbers of words and dimensions"),
        ("w.txt", b"", "not the numbers of words"),
        ("w.txt", b"\x80\x02 1\n", "not the numbers of words"),
        ("w.txt", b"1 0\na\n", "0 dimensions"),
        ("w.txt", b"2 3\na 1 2 3\nb 1 2\n", r"w.txt:3: holds 2 numbers and the first line tells 3 dimensions"),
        ("w.txt", b"3 1\na 1\nb 2\n", r"tells 3 words, and 2 follow"),
        ("w.txt", b"1 1\na 1\nb 2\n", r"tells 1 words, and more follow"),
        ("w.txt", b"1 2\na 1 x\n", r"word 1 of 1 \('a'\): holds what is no number"),
        ("w.txt", b"1 1\na nan\n", "no finite number"),
        ("w.bin", binary(["a", "b"], np.ones((2, 3)))[:-6], "ends within word 2 of 2"),
        ("w.bin", b"3 2" + binary(["a"], np.ones((1, 2)))[3:], r"tells 3 words, and 1 follow"),
        ("w.bin", b"1 2" + binary(["a"], np.ones((1, 3)))[3:], "and more follow"),
        ("w.bin", b"9 1\n" + b"a" * 20_000, "has no end"),
        ("w.txt.gz", b"no gzip", "cannot be read to its end"),
    ],
)
def test_files_that_cannot_be_used_say_so(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / name, ["a", "b"])
