"""Interchange with Hugging Face: a BERT folder becomes our encoder, and our encoder becomes such a folder.

Both compute the same to 1e-5 in float32: hidden states of real positions, masked-item logits, the pooler and the next-segment
logit. What differs is told here once: names and stacking of the weights (:func:`_layout`), the two next-segment logits of which
ours is the difference, and positions, which Hugging Face counts from the start (``encoder.positions``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctr_kd.config import EncoderConfig
from ctr_kd.huggingface.folder import (
    FolderConfig,
    InterchangeError,
    TextVocabulary,
    check_words,
    read_config,
    read_vocabulary,
    read_weights,
    write_folder,
)
from ctr_kd.models.bert import Bert, MaskedItemModel

__all__ = ["InterchangeError", "LoadedBert", "TextVocabulary", "adopt_bert", "export_bert", "load_bert"]

HEADS = {"masked_item": "cls.predictions.", "pooler": "pooler.", "next_segment": "cls.seq_relationship."}


@dataclass(frozen=True)
class LoadedBert:
    """What a Hugging Face BERT folder holds.

    Attributes
    ----------
    model : MaskedItemModel
        In eval mode; its one token feature is ``token``. [CLS] comes first in its sequences, so that the next-segment head
        reads position 0.
    vocabulary : TextVocabulary or None
        None where the folder has no vocab.txt.
    untrained : tuple of str
        Heads that the checkpoint does not hold, which are newly initialised: ``masked_item``, ``pooler``, ``next_segment``.
    """

    model: MaskedItemModel
    vocabulary: TextVocabulary | None
    untrained: tuple[str, ...]


def load_bert(folder: str | Path) -> LoadedBert:
    """Read a BertModel, BertForMaskedLM or BertForPreTraining that ``transformers`` wrote.

    Parameters
    ----------
    folder : path
        Holds config.json, model.safetensors or pytorch_model.bin, and optionally vocab.txt. Nothing of it is executed.

    Raises
    ------
    InterchangeError
        When the folder is no BERT, needs what our encoder does not compute, or its files do not belong together.
    """
    folder = Path(folder)
    config = read_config(folder / "config.json")
    vocabulary = read_vocabulary(folder / "vocab.txt", config.vocab_size)
    path, weights = read_weights(folder)
    untrained = tuple(head for head, prefix in HEADS.items() if not any(name.startswith(prefix) for name in weights))
    heads = tuple(HEADS[head] for head in untrained)
    with torch.device("meta"):  # shapes alone: a config.json may describe more than the memory holds
        wanted = _to_hugging_face(_fresh_model(config))
    _check_weights(path, weights, {name: value for name, value in wanted.items() if not name.startswith(heads)})
    model = _fresh_model(config)
    fresh = _to_hugging_face(model)
    model.load_state_dict(_from_hugging_face({**fresh, **weights}, model))
    return LoadedBert(model.eval(), vocabulary, untrained)


def adopt_bert(model: MaskedItemModel, folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """Give an encoder the weights of a BERT folder, its embeddings in the order of our own vocabulary.

    Parameters
    ----------
    model : MaskedItemModel
        Of one token feature and the folder's shape; with as many positions as its texts need, which may be fewer than the folder has.
    folder : Path
        As for :func:`load_bert`, with a vocab.txt.
    words : sequence of str
        Word of every index of the model.

    Returns
    -------
    tuple of str
        Heads that the folder does not hold, which stay as the folder's loading initialised them; see :class:`LoadedBert`.

    Raises
    ------
    InterchangeError
        When the folder cannot be loaded, or its shape, positions or words are not those of the model.
    """
    _check_shape(model, read_config(folder / "config.json"), folder)
    loaded = load_bert(folder)
    if loaded.vocabulary is None:
        raise InterchangeError(f"{folder} has no vocab.txt: without its words the meaning of its embeddings is unknown")
    index = {word: i for i, word in enumerate(loaded.vocabulary.tokens)}
    strange = [word for word in words if word not in index]
    if strange or len(words) != len(index):
        example = f", {strange[0]!r} for one" if strange else ""
        raise InterchangeError(
            f"{folder / 'vocab.txt'}: its {len(index)} words are not the teacher's {len(words)}{example}: read texts with this vocabulary"
        )
    order = torch.tensor([index[word] for word in words])
    weights = loaded.model.state_dict()
    token = f"bert.token.tables.{next(iter(model.bert.token.tables))}.weight"
    weights[token] = weights.pop("bert.token.tables.token.weight")[order]
    weights["bias"] = weights["bias"][order]
    weights["bert.position.weight"] = weights["bert.position.weight"][: model.state_dict()["bert.position.weight"].shape[0]]
    model.load_state_dict(weights)
    return loaded.untrained


def _check_shape(model: MaskedItemModel, config: FolderConfig, folder: Path) -> None:
    """The encoder has the folder's shape, and no more positions."""
    found, own = config.encoder(), model.bert.config
    shape = found.model_dump(include={"width", "layers", "heads", "feed_forward", "norm_epsilon"})
    wanted = {**own.model_dump(), "feed_forward": own.feed_forward or 4 * own.width}
    if {key: wanted[key] for key in shape} != shape:
        usual = {"feed_forward": 4 * found.width, "norm_epsilon": EncoderConfig().norm_epsilon}
        written = ", ".join(f"{key}: {value}" for key, value in shape.items() if usual.get(key) != value)
        raise InterchangeError(f"{folder} holds a BERT of another shape: write pretrain.encoder: {{{written}}}")
    positions = model.state_dict()["bert.position.weight"].shape[0]
    if positions > config.max_position_embeddings:
        raise InterchangeError(
            f"{folder} holds a BERT of {config.max_position_embeddings} positions, and the longest texts take {positions}: "
            "lower tokens.teacher.max_length"
        )


def export_bert(model: MaskedItemModel, folder: str | Path, tokens: Sequence[str] | None = None) -> None:
    """Write an encoder as a BertForPreTraining that ``transformers`` reads; the folder is there whole or not at all.

    Parameters
    ----------
    model : MaskedItemModel
        With one token feature, positions from the start, and the whole embedding as its vocabulary.
    folder : path
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
        check_words(tokens, config.vocab_size)
    values = {
        "architectures": ["BertForPreTraining"],
        **config.model_dump(),
        "attention_probs_dropout_prob": config.hidden_dropout_prob,
        "tie_word_embeddings": True,
    }
    weights = {name if name.startswith("cls.") else f"bert.{name}": value for name, value in _to_hugging_face(model).items()}
    write_folder(Path(folder), values, tokens, weights)


def _fresh_model(config: FolderConfig) -> MaskedItemModel:
    bert = Bert({"token": config.vocab_size}, config.max_position_embeddings, config.encoder())
    return MaskedItemModel(bert, torch.arange(config.vocab_size, dtype=torch.int32).unsqueeze(1))


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
        part: value.detach().to(torch.float32, copy=True).contiguous()
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
    for key, value in config.encoder().model_dump(exclude={"framed"}).items():  # a folder does not say what is put around segments
        if wanted[key] != value:
            raise InterchangeError(f"encoder.{key} is {wanted[key]!r}, which a Hugging Face BERT cannot express: train with {value!r}")
    return config


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
