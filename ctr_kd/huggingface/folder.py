"""A Hugging Face BERT folder on disk: config.json, vocab.txt and the weights, read with suspicion and written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctr_kd.config import EncoderConfig
from ctr_kd.training.checkpoint import unreadable_because
from feature_store.special_tokens import SPECIALS
from feature_store.tables.files import UnsafeFile, open_regular, sync

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of preference, which is that of transformers
# Copies that share their storage in transformers: a file holds either name, or both with equal values.
TIED = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight", "cls.predictions.decoder.bias": "cls.predictions.bias"}
CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")  # written by old versions; they count, and hold no weights


class InterchangeError(Exception):
    """A folder cannot be read as a BERT, or an encoder not be written as one; the message names what and where."""


class FolderConfig(BaseModel):
    """What config.json says of a BERT that our encoder can compute; keys that change no output are ignored.

    Attributes are Hugging Face's, with its defaults. A literal is the only value that our encoder knows.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["bert"] = "bert"
    vocab_size: int = Field(ge=1)
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = Field(ge=1)
    hidden_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    type_vocab_size: Literal[2] = 2
    pad_token_id: Literal[0] = 0
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False

    def encoder(self) -> EncoderConfig:
        """The same shape in our names. Attention has the dropout of the hidden states: outputs do not depend on it."""
        return EncoderConfig(
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            feed_forward=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            positions="from_start",
            framed=True,
            norm_epsilon=self.layer_norm_eps,
        )


@dataclass(frozen=True)
class TextVocabulary:
    """The words of a folder's vocab.txt.

    Attributes
    ----------
    tokens : list of str
        Word of every index of the embedding.
    specials : dict of str to int
        Index of each of :data:`feature_store.special_tokens.SPECIALS`, which may be anywhere in a vocab.txt.
    """

    tokens: list[str]
    specials: dict[str, int]


def folder_files(folder: Path) -> list[str]:
    """Names of the files of a folder that make up a BERT and its words: of several formats of weights the first.

    Parameters
    ----------
    folder : Path
        Of a user's data, where files may be links: Hugging Face's own cache consists of them.

    Raises
    ------
    InterchangeError
        When it is no folder of a BERT that our encoder can compute, or lacks one of them.
    """
    read_config(folder / "config.json", follow=True)
    if not _is_there(folder / "vocab.txt", follow=True):
        other = folder / "tokenizer.json"
        instead = f"; {other.name} holds them: write the keys of its model.vocab to vocab.txt, a line each, in the order of their numbers"
        raise InterchangeError(
            f"{folder} has no vocab.txt: without its words the meaning of its embeddings is unknown{instead if other.exists() else ''}"
        )
    return ["config.json", "vocab.txt", weights_file(folder, follow=True).name]


def _is_there(path: Path, follow: bool = False) -> bool:
    """Whether a file is there. Raises InterchangeError where something lies there that is none; so is a link unless it may be followed."""
    try:
        open_regular(path, follow).close()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise InterchangeError(f"{path} is a link that leads nowhere; correct or remove it") from None
        return False
    except UnsafeFile as error:
        raise InterchangeError(str(error)) from None
    return True


def read_config(path: Path, follow: bool = False) -> FolderConfig:
    """What config.json says, if our encoder can compute it."""
    if not _is_there(path, follow):
        raise InterchangeError(f"{path.parent} is not a Hugging Face BERT folder: it has no config.json")
    try:
        config = FolderConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
        config.encoder()  # which has bounds of its own
    except ValidationError as error:
        raise InterchangeError(f"{path}: {_reason(error)}") from error
    except ValueError as error:
        raise InterchangeError(f"{path} is not JSON ({error})") from error
    return config


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong with a config.json, in one line."""
    first = error.errors()[0]
    key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        return "it is not a JSON object"
    if first["type"] == "missing":
        return f"{key} is missing, so it does not describe a BERT"
    if key == "model_type":
        return f"it describes a {first['input']!r}, and BERT alone is computed here: use a folder of model_type bert"
    return f"{key} {first['input']!r} is not supported ({message})" if key else message


def lowercases(folder: Path) -> bool | None:
    """Whether upper and lower case are the same to a folder's BERT, by its tokenizer_config.json; None where that does not say."""
    path = folder / "tokenizer_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get("do_lower_case")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read ({error.strerror})") from None
    except (AttributeError, ValueError) as error:
        raise InterchangeError(f"{path} is no JSON object ({error})") from None
    return None if said is None else bool(said)


def has_capitals(folder: Path) -> bool:
    """Whether a folder's vocab.txt, which is there, has words of capital letters; special tokens are none."""
    words = (folder / "vocab.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(word != word.lower() for word in words if not word.startswith("["))


def read_vocabulary(path: Path, size: int) -> TextVocabulary | None:
    """The words of a vocab.txt of so many lines; None where there is none."""
    if not _is_there(path):
        return None
    try:
        with path.open(encoding="utf-8") as file:  # not splitlines(): a word may be one of Unicode's line separators
            tokens = [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError as error:
        raise InterchangeError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error
    return _text_vocabulary(tokens, size, str(path))


def _text_vocabulary(tokens: Sequence[str], size: int, where: str) -> TextVocabulary:
    if len(tokens) != size:
        raise InterchangeError(f"{where}: {len(tokens)} tokens, but the embedding has {size} rows: they belong to different models")
    index = {token: i for i, token in enumerate(tokens)}
    missing = [token for token in SPECIALS if token not in index]
    if missing:
        raise InterchangeError(f"{where}: {' and '.join(missing)} missing: the vocabulary of a BERT holds {' '.join(SPECIALS)}")
    return TextVocabulary(list(tokens), {token: index[token] for token in SPECIALS})


def check_words(tokens: Sequence[str], size: int) -> None:
    """What is written must come back as it is: one line a token, no two alike."""
    _text_vocabulary(tokens, size, "the tokens to export")
    seen: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if not token or "\n" in token or "\r" in token:
            raise InterchangeError(f"the tokens to export: token {i} is {token!r}, which cannot be a line of vocab.txt")
        if seen.setdefault(token, i) != i:
            raise InterchangeError(f"the tokens to export: {token!r} is both token {seen[token]} and token {i}")


def weights_file(folder: Path, follow: bool = False) -> Path:
    """The file that holds the weights."""
    path = next((folder / name for name in WEIGHT_FILES if _is_there(folder / name, follow)), None)
    if path is None:
        index = next((folder / f"{name}.index.json" for name in WEIGHT_FILES if (folder / f"{name}.index.json").exists()), None)
        if index is not None:
            raise InterchangeError(f"{folder} holds its weights in parts ({index.name}): save them again in one file, {WEIGHT_FILES[0]}")
        raise InterchangeError(f"{folder} holds no weights: it has neither {' nor '.join(WEIGHT_FILES)}")
    return path


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file that holds the weights, and they in float32 under Hugging Face's names without ``bert.``."""
    path = weights_file(folder)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # both libraries raise half a dozen types for damaged files
        reason = unreadable_because(error)
        raise InterchangeError(f"{path} cannot be read ({reason}): it is damaged, or holds more than tensors; fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InterchangeError(f"{path} does not hold tensors by name: save the model's state_dict()")
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        # A head beside the encoder puts `bert.` before its names; checkpoints of 2018 have TensorFlow's names of the norms.
        renamed = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if renamed in CONSTANTS:
            continue
        if not value.is_floating_point():
            raise InterchangeError(f"{path}: {name} holds {value.dtype}, not floating point numbers: quantised weights are not supported")
        weights[renamed] = value.float()
    for copy, original in TIED.items():
        tied = weights.pop(copy, None)
        if tied is not None and not torch.equal(weights.setdefault(original, tied), tied):
            raise InterchangeError(f"{path}: {copy} differs from {original}: an output layer of its own is not supported")
    return path, weights


def write_folder(folder: Path, config: Mapping[str, Any], tokens: Sequence[str] | None, weights: dict[str, Tensor]) -> None:
    """Write config.json, vocab.txt where there are tokens, and model.safetensors.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty.
    config : mapping
        Of config.json.
    tokens : sequence of str, optional
        Word of every index.
    weights : dict of str to Tensor
        Under Hugging Face's names.

    Raises
    ------
    InterchangeError
        When the folder holds something.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InterchangeError(f"{folder} exists and is not an empty folder: remove it or export to another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        (partial / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
        if tokens is not None:
            (partial / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})  # transformers refuses a file without a format
        (partial / "model.safetensors").chmod((partial / "config.json").stat().st_mode)  # safetensors hides it from other users
        for path in (*partial.iterdir(), partial):
            sync(path)
        try:
            partial.rename(folder)  # replaces an empty folder, and no other
        except OSError as error:
            raise InterchangeError(f"{folder} cannot be put in place ({error.strerror}): remove it or export to another one") from error
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
