"""Vectors of texts: those of ``transformers``, whatever texts stand around one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from ctr_kd.huggingface.encode import TextEncoder
from ctr_kd.huggingface.folder import InterchangeError
from tests.ctr_kd.huggingface.test_convert import WORDS, write_folder

TEXTS = ["word1 word2", "你好", "", "unheard of", "word3 word3 word3 word4 word5 word6 word7 word8 word9 word10 word1", "Word1 WORD2"]


@torch.no_grad()
def theirs(model: torch.nn.Module, folder: Path, max_length: int) -> np.ndarray:
    """The mean of the hidden states of real tokens, of length one."""
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    found = []
    for text in TEXTS:  # one at a time: nothing is padded
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length + 2)
        mean = model(**ids).last_hidden_state[0].mean(0)
        found.append((mean / mean.norm()).numpy())
    return np.stack(found)


@pytest.mark.parametrize("max_length", [4, 64])  # the second is more than the checkpoint has positions
def test_vectors_are_those_of_transformers(max_length: int, tmp_path: Path) -> None:
    model = write_folder(tmp_path, "BertModel")
    encoder = TextEncoder(tmp_path, max_length)
    done: list[int] = []
    found = encoder.encode(TEXTS, done.append)
    assert found.shape == (len(TEXTS), encoder.width) and done == [len(TEXTS)]
    np.testing.assert_allclose(found, theirs(model, tmp_path, min(max_length, 10)), atol=1e-5)
    np.testing.assert_allclose(found[0], found[5], atol=1e-6)  # the case of letters says nothing
    many = encoder.encode(TEXTS * 50, done.append)
    np.testing.assert_allclose(many, np.tile(found, (50, 1)), atol=1e-5)


def test_a_folder_may_tell_upper_from_lower_case(tmp_path: Path) -> None:
    write_folder(tmp_path, "BertModel")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    one, other = TextEncoder(tmp_path, 8).encode(["word1", "Word1"])
    assert not np.allclose(one, other, atol=1e-3)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(InterchangeError, match=r"tokenizer_config\.json is no JSON object"):
        TextEncoder(tmp_path, 8)


def test_a_folder_without_words_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, "BertModel")
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(InterchangeError, match=r"has no vocab\.txt"):
        TextEncoder(tmp_path, 8)
