"""Pretrain the encoder on click sequences, and measure what it knows of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ctr_kd.batching import batch_plan, gather, hide_known
from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.objectives.masked_item import mask_items, masked_item_loss
from ctr_kd.objectives.next_segment import next_segment_loss
from ctr_kd.samples import Assembly, Segment, Signature
from ctr_kd.training import Curve, ParameterGroup, TrainingError, fit

VALIDATION_SEQUENCES = 4096  # enough for masked-item accuracy to two decimals


def build_encoder(assembly: Assembly, signature: Signature, config: EncoderConfig) -> MaskedItemModel:
    """An encoder that holds two of the longest histories: next-segment prediction joins pieces of two."""
    bert = Bert(signature.tokens, 2 * signature.max_length, config)
    return MaskedItemModel(bert, torch.from_numpy(assembly.vocabulary_tokens()))


def split_sequences(sequences: Segment, user: np.ndarray, share: float, seed: int) -> tuple[Segment, Segment]:
    """Put the sequences of a seeded share of the users aside: (training, validation), at least one user each.

    All pieces of a user lie on one side: a model that has seen how somebody clicks knows something of the rest.

    Parameters
    ----------
    sequences : Segment
    user : int array (sequences,)
    share : float
        Of the users; fewer where their sequences would be more than ``VALIDATION_SEQUENCES``.
    seed : int

    Raises
    ------
    TrainingError
        When there are sequences of fewer than two users.
    """
    users, owner, pieces = np.unique(user, return_inverse=True, return_counts=True)
    count = len(users)
    if count < 2:
        raise TrainingError(
            f"pretraining needs click sequences of 2 clicks or more of at least 2 users, and found {count}: "
            "widen the training window or history.max_length"
        )
    order = np.random.default_rng([seed, 17]).permutation(count)
    enough = int(np.searchsorted(np.cumsum(pieces[order]), VALIDATION_SEQUENCES, side="right"))
    aside = max(1, min(round(count * share), enough, count - 1))
    held_out = np.isin(owner, order[:aside])
    first, second = (Segment(sequences.pool, sequences.start[p], sequences.end[p], sequences.gap_column) for p in (~held_out, held_out))
    return first, second


@torch.no_grad()
def masked_item_accuracy(model: MaskedItemModel, sequences: Segment, batch_size: int = 512) -> dict[str, float]:
    """Loss (nats) and accuracy of predicting the last item of every sequence, each hidden by the same [MASK].

    Returns
    -------
    dict
        ``masked_item_loss``, ``masked_item_accuracy``; ``score`` is the negative loss.
    """
    was_training = model.training
    model.eval()
    total, right, count = 0.0, 0, 0
    rng = np.random.default_rng(0)  # draws nothing here: the last item is always hidden, always by [MASK]
    length = sequences.end - sequences.start
    for rows in batch_plan(length, np.arange(len(length)), batch_size, None):
        tokens, lengths = gather(sequences, sequences.start[rows], sequences.end[rows])
        masked = mask_items(tokens, lengths, rng, 0.0, 1.0, disguised=0.0)
        loss, hits = masked_item_loss(model, masked)
        total, right, count = total + loss.item() * len(masked.target), right + int(hits), count + len(masked.target)
    model.train(was_training)
    count = max(count, 1)
    return {"masked_item_loss": total / count, "masked_item_accuracy": right / count, "score": -total / count}


def pretrain(
    assembly: Assembly,
    signature: Signature,
    config: PretrainConfig,
    until: int | None,
    seed: int,
    identity: str,
    checkpoint: Path,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[MaskedItemModel, Curve, dict[str, float]]:
    """Train the encoder by masked item prediction, and next-segment prediction where configured.

    Parameters
    ----------
    assembly : Assembly
    signature : Signature
    config : PretrainConfig
    until : int or None
        Clicks known from this time on (microseconds UTC) are not seen.
    seed : int
    identity : str
        Fingerprint of the training, for its checkpoint.
    checkpoint : Path
    report : callable

    Returns
    -------
    model : MaskedItemModel
        With the weights of the lowest validation loss.
    curve : Curve
    facts : dict
        Number of sequences and tokens, masked-item accuracy and loss.
    """
    torch.manual_seed(seed)
    model = build_encoder(assembly, signature, config.encoder)
    sequences = assembly.sequences(until)
    training, validation = split_sequences(sequences, assembly.users_of(sequences), config.validation_share, seed)
    length = training.end - training.start
    sequence = np.arange(len(length))
    own, *attributes = training.vocabulary_columns

    def loss(rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        tokens, lengths = gather(training, training.start[rows], training.end[rows])
        masked = mask_items(tokens, lengths, rng, config.mask_rate, config.last_item_rate)
        if config.training.unknown_rate:
            hide_known(masked.tokens[:, :, own].numpy(), config.training.unknown_rate, rng)
        if config.training.attribute_rate:
            for column in attributes:
                hide_known(masked.tokens[:, :, column].numpy(), config.training.attribute_rate, rng)
        value, _ = masked_item_loss(model, masked)
        if config.next_segment:
            value = value + config.next_segment * next_segment_loss(model, tokens, lengths, rng)
        return value

    curve = fit(
        model,
        [ParameterGroup(list(model.parameters()))],
        lambda rng: batch_plan(length, sequence, config.training.batch_size, rng),
        loss,
        lambda: masked_item_accuracy(model, validation),
        config.training,
        seed,
        identity,
        checkpoint,
        report,
    )
    facts = {"sequences": float(len(length)), "tokens": float(length.sum()), **masked_item_accuracy(model, validation)}
    facts.pop("score")
    return model, curve, facts
