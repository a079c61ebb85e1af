"""Interchange with Hugging Face: a BERT folder becomes our encoder, and our encoder becomes such a folder.

Both compute the same to 1e-5 in float32: hidden states of real positions, masked-item logits, the pooler and the next-segment
logit. What differs is told here once: names and stacking of the weights (:func:`_layout`), the two next-segment logits of which
ours is the difference, and positions, which Hugging Face counts from the start (``encoder.positions``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctr_kd.config import EncoderConfig
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.samples import SPECIALS

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of preference, which is that of transformers
HEADS = {"masked_item": "cls.predictions.", "pooler": "pooler.", "next_segment": "cls.seq_relationship."}
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
        Index of each of :data:`ctr_kd.samples.SPECIALS`, which stand anywhere in a vocab.txt.
    """

    tokens: list[str]
    specials: dict[str, int]


@dataclass(frozen=True)
class LoadedBert:
    """What a Hugging Face BERT folder holds.

    Attributes
    ----------
    model : MaskedItemModel
        In eval mode; its one token feature is ``token``. [CLS] stands first in its sequences, so that the next-segment head
        reads position 0.
    vocabulary : TextVocabulary or None
        None where the folder has no vocab.txt.
    untrained : tuple of str
        Heads that the checkpoint does not hold, which are newly initialised: ``masked_item``, ``pooler``, ``next_segment``.
    """

    model: MaskedItemModel
    vocabulary: TextVocabulary | None
    untrained: tuple[str, ...]


def load_bert(folder: Path) -> LoadedBert:
    """Read a BertModel, BertForMaskedLM or BertForPreTraining that ``transformers`` wrote.

    Parameters
    ----------
    folder : Path
        Holds config.json, model.safetensors or pytorch_model.bin, and optionally vocab.txt. Nothing of it is executed.

    Raises
    ------
    InterchangeError
        When the folder is no BERT, needs what our encoder does not compute, or its files do not belong together.
    """
    config = _read_config(folder / "config.json")
    vocabulary = _read_vocabulary(folder / "vocab.txt", config.vocab_size)
    bert = Bert({"token": config.vocab_size}, config.max_position_embeddings, config.encoder())
    model = MaskedItemModel(bert, torch.arange(config.vocab_size, dtype=torch.int32).unsqueeze(1))

    path, weights = _read_weights(folder)
    fresh = _to_hugging_face(model)
    untrained = tuple(head for head, prefix in HEADS.items() if not any(name.startswith(prefix) for name in weights))
    heads = tuple(HEADS[head] for head in untrained)
    _check_weights(path, weights, {name: value for name, value in fresh.items() if not name.startswith(heads)})
    model.load_state_dict(_from_hugging_face({**fresh, **weights}, model))
    return LoadedBert(model.eval(), vocabulary, untrained)


def export_bert(model: MaskedItemModel, folder: Path, tokens: Sequence[str] | None = None) -> None:
    """Write an encoder as a BertForPreTraining that ``transformers`` reads; the folder is there whole or not at all.

    Parameters
    ----------
    model : MaskedItemModel
        With one token feature, positions from the start, and the whole embedding as its vocabulary.
    folder : Path
        Must not exist, or be empty.
    tokens : sequence of str, optional
        Word of every index, which become vocab.txt.

    Raises
    ------
    InterchangeError
        When Hugging Face's BERT cannot express the model, the tokens do not fit it, or the folder holds something.
    """
    config = _folder_config(model)
    if tokens is not None:
        _check_words(tokens, config.vocab_size)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InterchangeError(f"{folder} exists and is not an empty folder: remove it or export to another one")
    values = {
        "architectures": ["BertForPreTraining"],
        **config.model_dump(),
        "attention_probs_dropout_prob": config.hidden_dropout_prob,
        "tie_word_embeddings": True,
    }
    weights = {name if name.startswith("cls.") else f"bert.{name}": value for name, value in _to_hugging_face(model).items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        (partial / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        if tokens is not None:
            (partial / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})  # transformers refuses a file without a format
        (partial / "model.safetensors").chmod((partial / "config.json").stat().st_mode)  # safetensors hides it from other users
        for path in (*partial.iterdir(), partial):
            _sync(path)
        try:
            partial.rename(folder)  # replaces an empty folder, and no other
        except OSError as error:
            raise InterchangeError(f"{folder} cannot be put in place ({error.strerror}): remove it or export to another one") from error
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _layout(model: MaskedItemModel) -> dict[str, list[str]]:
    """Our parameters, and those of Hugging Face (without ``bert.``) that stacked in this order make each of them up."""
    modules = {
        "bert.norm": ["embeddings.LayerNorm"],
        "transform.0": ["cls.predictions.transform.dense"],
        "transform.2": ["cls.predictions.transform.LayerNorm"],
        "next_segment.0": ["pooler.dense"],
        "next_segment.2": ["cls.seq_relationship"],
    }
    for i in range(len(model.bert.layers)):
        ours, theirs = f"bert.layers.{i}", f"encoder.layer.{i}"
        modules[f"{ours}.attention.query_key_value"] = [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")]
        modules[f"{ours}.attention.output"] = [f"{theirs}.attention.output.dense"]
        modules[f"{ours}.attention_norm"] = [f"{theirs}.attention.output.LayerNorm"]
        modules[f"{ours}.expand"] = [f"{theirs}.intermediate.dense"]
        modules[f"{ours}.contract"] = [f"{theirs}.output.dense"]
        modules[f"{ours}.output_norm"] = [f"{theirs}.output.LayerNorm"]
    token = next(iter(model.bert.token.tables))
    return {
        f"bert.token.tables.{token}.weight": ["embeddings.word_embeddings.weight"],
        "bert.position.weight": ["embeddings.position_embeddings.weight"],
        "bert.segment.weight": ["embeddings.token_type_embeddings.weight"],
        "bias": ["cls.predictions.bias"],
        **{f"{ours}.{kind}": [f"{part}.{kind}" for part in parts] for ours, parts in modules.items() for kind in ("weight", "bias")},
    }


def _to_hugging_face(model: MaskedItemModel) -> dict[str, Tensor]:
    """The model's weights in Hugging Face's names and shapes, each with a storage of its own."""
    ours = model.state_dict()
    theirs = {
        part: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, parts in _layout(model).items()
        for part, value in zip(parts, ours[name].chunk(len(parts)), strict=True)
    }
    # The classes are: B continues A, and B does not.
    return {
        name: torch.cat([value, torch.zeros_like(value)]) if name.startswith(HEADS["next_segment"]) else value
        for name, value in theirs.items()
    }


def _from_hugging_face(theirs: Mapping[str, Tensor], model: MaskedItemModel) -> dict[str, Tensor]:
    """The inverse of :func:`_to_hugging_face`."""
    theirs = {name: value[:1] - value[1:] if name.startswith(HEADS["next_segment"]) else value for name, value in theirs.items()}
    return {name: torch.cat([theirs[part] for part in parts]) for name, parts in _layout(model).items()}


def _folder_config(model: MaskedItemModel) -> FolderConfig:
    """Describe a model as Hugging Face would, or say what of it cannot be described."""
    strange = sorted(set(model.state_dict()) - set(_layout(model)))
    if strange:
        raise InterchangeError(
            f"the model holds {strange[0]}, which a Hugging Face BERT has no place for: only an encoder of one token feature is exported"
        )
    bert, encoder = model.bert, model.bert.config
    table = bert.token.embeddings()[0]
    whole = torch.arange(table.num_embeddings, device=model.vocabulary.device)
    if not torch.equal(model.vocabulary.flatten().long(), whole):
        raise InterchangeError(
            f"the model predicts {len(model.vocabulary)} tokens of an embedding of {len(whole)}: a Hugging Face BERT predicts all, in order"
        )
    config = FolderConfig(
        vocab_size=table.num_embeddings,
        hidden_size=encoder.width,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.feed_forward or 4 * encoder.width,
        max_position_embeddings=bert.position.num_embeddings if bert.position is not None else 1,  # refused below
        hidden_dropout_prob=encoder.dropout,
        layer_norm_eps=encoder.norm_epsilon,
    )
    # Whatever the encoder's settings come to be, those that do not survive the way there and back are refused.
    wanted = {**encoder.model_dump(), "feed_forward": config.intermediate_size}
    for key, value in config.encoder().model_dump().items():
        if wanted[key] != value:
            raise InterchangeError(f"encoder.{key} is {wanted[key]!r}, which a Hugging Face BERT cannot express: train with {value!r}")
    return config


def _read_config(path: Path) -> FolderConfig:
    if not path.is_file():
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
    return f"{key} {first['input']!r} is not supported ({message})" if key else message


def _read_vocabulary(path: Path, size: int) -> TextVocabulary | None:
    if not path.is_file():
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


def _check_words(tokens: Sequence[str], size: int) -> None:
    """What is written must come back as it is: one line a token, no two alike."""
    _text_vocabulary(tokens, size, "the tokens to export")
    seen: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if not token or "\n" in token or "\r" in token:
            raise InterchangeError(f"the tokens to export: token {i} is {token!r}, which cannot be a line of vocab.txt")
        if seen.setdefault(token, i) != i:
            raise InterchangeError(f"the tokens to export: {token!r} is both token {seen[token]} and token {i}")


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file that holds the weights, and they in float32 under the names of :func:`_layout`."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InterchangeError(f"{folder} holds no weights: it has neither {' nor '.join(WEIGHT_FILES)}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # both libraries raise half a dozen types for damaged files
        said = str(error).strip()
        call = re.search(r"GLOBAL (\S+)", said)  # torch names it below its advice to load the file without protection
        reason = f"it would call {call[1]}" if call else said.splitlines()[0][:120] if said else type(error).__name__
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


def _check_weights(path: Path, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """The file holds what config.json describes, no tensor less and none more."""
    missing, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    for problem, names in (("lacks {} tensors of the BERT in config.json", missing), ("has {} tensors beside those of a BERT", unknown)):
        if names:
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise InterchangeError(f"{path} {problem.format(len(names))} ({listed}): the two belong to different models")
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise InterchangeError(
                f"{path}: {name} is {tuple(weights[name].shape)}, but config.json says {tuple(value.shape)}: it is another model's"
            )


def _sync(path: Path) -> None:
    """Have a file's bytes, or a directory's entries, on disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
