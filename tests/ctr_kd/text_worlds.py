"""A tiny assembly of texts on disk, made by hand: words of letters, two tokenizers, classes that one word tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.config import TokenizerConfig
from feature_store.special_tokens import UNKNOWN
from feature_store.text.tokenizers import Tokenizer, fit_tokenizer
from tests.summaries import text_summary

CLASSES = ["car", "culture", "edu"]
LETTERS = "abcdefghijklmnopqrst"
VIEWS = {
    "teacher": TokenizerConfig(kind="characters", min_count=1, max_length=128),
    "student": TokenizerConfig(kind="ngrams", lengths=(1, 2), min_count=1, max_length=128),
}


def make_texts(rows: int, seed: int, pair: bool = False) -> tuple[list[str], list[str], np.ndarray]:
    """Random texts of 3 to 9 letters, second texts (empty without pairs) and labels, which a letter of the text tells nine times in ten."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list(LETTERS), rng.integers(3, 10))) for _ in range(rows)]
    texts_b = ["".join(rng.choice(list(LETTERS), rng.integers(2, 6))) for _ in range(rows)] if pair else [""] * rows
    label = rng.integers(0, len(CLASSES), rows)
    told = rng.random(rows) < 0.9
    texts = [("xyz"[label[i]] + text) if told[i] else text for i, text in enumerate(texts)]
    return texts, texts_b, label


def write_texts(directory: Path, pair: bool = False, rows: int = 400, seed: int = 0, unlabelled: int = 20) -> Path:
    """Texts in the layout of ``feature_store.text.dataset``.

    The last tests are in training too, and the first unlabelled one is a test text.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts, texts_b, label = make_texts(rows + unlabelled, seed, pair)
    split = np.array(["train", "validation", "test"], object)[np.digitize(np.arange(rows) / rows, [0.6, 0.75])]
    split = np.concatenate([split, np.full(unlabelled, "unlabelled", object)])
    for copy, row in enumerate(range(rows - 5, rows)):
        texts[row], texts_b[row], label[row] = texts[copy], texts_b[copy], label[copy]
    first_test = int(np.flatnonzero(split == "test")[0])
    if unlabelled:
        texts[rows], texts_b[rows], label[rows:] = texts[first_test], texts_b[first_test], -1
    leaked = np.zeros(len(texts), bool)
    leaked[rows - 5 : rows] = True
    leaked[rows : rows + 1] = True
    columns = {"row_id": np.arange(len(texts)), "split": split.astype(str), "label": label.astype(np.int32)}
    pq.write_table(pa.table({**columns, "text": texts, "text_b": texts_b, "leaked": leaked}), directory / "texts.parquet")
    (directory / "classes.json").write_text(json.dumps(CLASSES))
    (directory / "audit.json").write_text("{}")
    counts = {name: int((split == name).sum()) for name in ("train", "validation", "test", "unlabelled")}
    text_summary(rows=counts, classes=len(CLASSES), pair=pair).write(directory)
    train = [text for text, part in zip(texts, split, strict=True) if part == "train"]
    for view, config in VIEWS.items():
        _write_view(directory / view, fit_tokenizer(config, train), texts, texts_b)
    return directory


def _write_view(directory: Path, tokenizer: Tokenizer, texts: list[str], texts_b: list[str]) -> None:
    directory.mkdir()
    both = [text for pair in zip(texts, texts_b, strict=True) for text in pair]
    indices, offsets = tokenizer.encode(both)
    assert indices.min(initial=UNKNOWN) >= UNKNOWN
    np.save(directory / "tokens.npy", indices[:, None])
    ranges = {"a_start": offsets[:-1:2], "a_end": offsets[1::2], "b_start": offsets[1:-1:2], "b_end": offsets[2::2]}
    pq.write_table(pa.table({"row_id": np.arange(len(texts)), **ranges}), directory / "ranges.parquet")
    (directory / "vocabulary.json").write_text(json.dumps({"token": tokenizer.tokens}))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer.to_dict()))
