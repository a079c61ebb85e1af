"""Pretrain the encoder on click sequences, and measure what it knows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ctr_kd.budgets import settled_pretraining
from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.data.batching import batch_plan, gather, hide_known, leave_out
from ctr_kd.data.samples import Assembly, Segment, Signature
from ctr_kd.data.sequences import TokenSequences
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.models.next_item import NextItemStudent
from ctr_kd.objectives.masked_item import mask_items, masked_part, predict_next
from ctr_kd.objectives.next_segment import make_pairs, next_segment_loss, pairs_part
from ctr_kd.objectives.sampled_softmax import (
    NegativeSampler,
    attribute_loss,
    gbce_loss,
    item_loss_kind,
    sampled_softmax_loss,
    softmax_loss,
)
from ctr_kd.training.devices import choose_device, device_of, to_device
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit
from ctr_kd.training.warm_start import EarlierModel
from feature_store.special_tokens import SPECIALS
from feature_store.tables.contracts import DataError

VALIDATION_SEQUENCES = 4096  # enough for masked-item accuracy to two decimals
LEARN_MORE = (
    "let it train longer (pretrain.training.epochs) or faster (pretrain.training.learning_rate), or, of clicks, on all (pretrain.clicks)"
)
COUNTED_SEQUENCES = 10_000  # at a time: the pool of tokens may be larger than the memory


def build_encoder(assembly: TokenSequences, signature: Signature, config: EncoderConfig) -> MaskedItemModel:
    """An encoder that holds two of the longest segments, as next-segment prediction joins pieces of two; or a framed pair with a [MASK].

    Parameters
    ----------
    assembly : TokenSequences
        Source of the vocabulary.
    signature : Signature
        Of the assembly.
    config : EncoderConfig
    """
    most, second = signature.max_length, signature.max_length_b
    bert = Bert(signature.tokens, most + second + 3 if config.framed else most + max(most, second), config, signature.vectors)
    return MaskedItemModel(bert, torch.from_numpy(assembly.vocabulary_tokens()))


def item_counts(sequences: Segment, vocabulary: int) -> np.ndarray:
    """How often each index occurs in the sequences, int64 (vocabulary,).

    Parameters
    ----------
    sequences : Segment
    vocabulary : int
        Indices, special tokens included.
    """
    count = np.zeros(vocabulary, np.int64)
    for first in range(0, len(sequences.start), COUNTED_SEQUENCES):
        start, end = sequences.start[first : first + COUNTED_SEQUENCES], sequences.end[first : first + COUNTED_SEQUENCES]
        tokens, length = gather(sequences, start, end)
        count += np.bincount(tokens[:, :, 0][np.arange(tokens.shape[1]) < length[:, None]], minlength=vocabulary)
    return count


def split_sequences(sequences: Segment, user: np.ndarray, share: float, seed: int) -> tuple[Segment, Segment]:
    """Put the sequences of a seeded share of the users aside: (training, validation), at least one user each.

    All pieces of a user lie on one side: a model that has seen some clicks of a user knows something of their other clicks.

    Parameters
    ----------
    sequences : Segment
    user : int array (sequences,)
    share : float
        Of the users; fewer where their sequences would be more than ``VALIDATION_SEQUENCES``.
    seed : int

    Raises
    ------
    DataError
        When there are sequences of fewer than two users.
    """
    users, owner, pieces = np.unique(user, return_inverse=True, return_counts=True)
    count = len(users)
    if count < 2:
        raise DataError(
            f"pretraining needs sequences of 2 clicks or more of at least 2 users, and found {count}: let training reach further (split), "
            "let history.max_length be 2 or more, or check the column of users"
        )
    order = np.random.default_rng([seed, 17]).permutation(count)
    enough = int(np.searchsorted(np.cumsum(pieces[order]), VALIDATION_SEQUENCES, side="right"))
    aside = max(1, min(round(count * share), enough, count - 1))
    held_out = np.isin(owner, order[:aside])
    first, second = (Segment(sequences.pool, sequences.start[p], sequences.end[p], sequences.gap_column) for p in (~held_out, held_out))
    return first, second


def pretraining_sequences(assembly: TokenSequences, config: PretrainConfig, until: int | None, seed: int) -> tuple[Segment, Segment]:
    """Sequences that pretraining learns from, and those of other users that measure what it learned.

    Parameters
    ----------
    assembly : TokenSequences
    config : PretrainConfig
    until : int or None
        Clicks known from this time on (microseconds UTC) are in neither.
    seed : int
        Of the choice of users.
    """
    sequences = assembly.sequences(until, config.overlap)
    return split_sequences(sequences, assembly.users_of(sequences), config.validation_share, seed)


class LastItems(NamedTuple):
    """What was predicted of the last items of some sequences.

    Attributes
    ----------
    target : int64 array (sequences,)
        The last items.
    before : int64 array (sequences,)
        Those clicked just before.
    loss : float64 array (sequences,)
        Nats.
    right : bool array (sequences,)
    """

    target: NDArray
    before: NDArray
    loss: NDArray
    right: NDArray


@torch.no_grad()
def predict_last_items(model: MaskedItemModel | NextItemStudent, sequences: Segment, batch_size: int = 512) -> LastItems:
    """Predict the last item of every sequence from those before it, over all items; those outside the vocabulary are not asked for.

    Parameters
    ----------
    model : MaskedItemModel or NextItemStudent
    sequences : Segment
    batch_size : int
    """
    was_training = model.training
    model.eval()
    device = device_of(model)
    parts: list[tuple[NDArray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))]
    length = sequences.end - sequences.start
    for rows in batch_plan(length, np.arange(len(length)), batch_size, None):
        rows = rows[sequences.pool[sequences.end[rows] - 1, 0] >= len(SPECIALS)]
        if not len(rows):
            continue
        items = sequences.pool[sequences.end[rows] - 1, 0].astype(np.int64)
        target = torch.from_numpy(items).to(device)
        tokens, lengths = gather(sequences, sequences.start[rows], sequences.end[rows] - 1)
        logits = model.all_items(model.history_state(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths).to(device)))
        loss = F.cross_entropy(logits, target, reduction="none").double().cpu().numpy()
        before = tokens[np.arange(len(rows)), lengths - 1, 0].astype(np.int64)
        parts.append((items, before, loss, (logits.argmax(1) == target).cpu().numpy()))
    model.train(was_training)
    return LastItems(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def masked_item_accuracy(model: MaskedItemModel | NextItemStudent, sequences: Segment, batch_size: int = 512) -> dict[str, float]:
    """Loss (nats) and accuracy of :func:`predict_last_items`.

    Parameters
    ----------
    model : MaskedItemModel or NextItemStudent
    sequences : Segment
    batch_size : int

    Returns
    -------
    dict
        ``masked_item_loss``, ``masked_item_accuracy``; ``score`` is the negative loss.
    """
    return figures_of(predict_last_items(model, sequences, batch_size))


def figures_of(found: LastItems) -> dict[str, float]:
    """What :func:`masked_item_accuracy` says, of predictions that were made already."""
    count = max(len(found.target), 1)
    loss = float(found.loss.sum()) / count
    return {"masked_item_loss": loss, "masked_item_accuracy": int(found.right.sum()) / count, "score": -loss}


def beside_the_obvious(found: LastItems, counts: NDArray) -> dict[str, float]:
    """What an encoder knows beside what one knows without any: which items are popular, and which was clicked last.

    Parameters
    ----------
    found : LastItems
    counts : int array (indices,)
        How often each item occurs in the training sequences, special tokens in front.

    Returns
    -------
    dict
        ``popularity_loss`` (nats, of counts plus one), ``popularity_accuracy`` (of the most frequent item), ``last_click_accuracy`` (of the
        same item again); and by how much the encoder's loss is lower than that of popularity, ``gain``, with its 95 % interval over
        sequences, ``gain_low`` and ``gain_high``. Empty without sequences.
    """
    if not len(found.target):
        return {}
    known = counts[len(SPECIALS) :] + 1.0
    loss = -np.log(known / known.sum())[found.target - len(SPECIALS)]
    gain = loss - found.loss
    half = 1.96 * float(gain.std()) / math.sqrt(len(gain))
    return {
        "popularity_loss": float(loss.mean()),
        "popularity_accuracy": float((found.target == len(SPECIALS) + int(known.argmax())).mean()),
        "last_click_accuracy": float((found.target == found.before).mean()),
        "gain": float(gain.mean()),
        "gain_low": float(gain.mean()) - half,
        "gain_high": float(gain.mean()) + half,
    }


@dataclass(frozen=True)
class EarlierEncoder(EarlierModel):
    """An encoder that a pretraining continues with.

    Attributes
    ----------
    since : int
        Clicks known before this time (microseconds UTC) are what it has learned.
    replay : float
        Sequences without a newer click that are learned again, as a share of those with one.
    """

    since: int
    replay: float


def newer_sequences(assembly: Assembly, sequences: Segment, earlier: EarlierEncoder, seed: int) -> Segment:
    """Sequences that end in a click which the earlier encoder has not seen, and some of the others, in their order.

    Parameters
    ----------
    assembly : Assembly
    sequences : Segment
    earlier : EarlierEncoder
    seed : int
        Of the choice of the others.
    """
    new = assembly.newest_known_at(sequences) >= earlier.since
    old = np.flatnonzero(~new)
    again = np.random.default_rng([seed, 19]).permutation(old)[: round(earlier.replay * int(new.sum()))]
    chosen = np.sort(np.concatenate([np.flatnonzero(new), again]))
    return Segment(sequences.pool, sequences.start[chosen], sequences.end[chosen], sequences.gap_column)


def pretrain(
    assembly: TokenSequences, config: PretrainConfig, job: TrainingJob, *, until: int | None = None, earlier: EarlierEncoder | None = None
) -> tuple[MaskedItemModel, LearningCurve | None, dict[str, float]]:
    """Train the encoder by masked item prediction, and next-segment prediction where configured.

    Parameters
    ----------
    assembly : TokenSequences
    config : PretrainConfig
    job : TrainingJob
    until : int, optional
        Clicks known from this time on (microseconds UTC) are not seen.
    earlier : EarlierEncoder, optional
        Of clicks: what the training continues with, on what is new since. By default it begins anew, on everything.

    Returns
    -------
    model : MaskedItemModel
        With the weights of the lowest validation loss.
    curve : LearningCurve or None
        None where nothing is new since the earlier encoder.
    facts : dict
        Number of sequences and tokens, masked-item accuracy and loss, and :func:`beside_the_obvious`.

    Raises
    ------
    DataError
        When there is nothing to predict.
    TrainingError
        When the loss is not finite.
    """
    signature = assembly.signature()
    items = next(iter(signature.tokens.values()))
    if items == len(SPECIALS):
        raise DataError("pretraining has nothing to predict: the vocabulary holds no item; lower its min_count or train on more rows")
    torch.manual_seed(job.seed)
    kind = item_loss_kind(config, items)
    model = build_encoder(assembly, signature, config.encoder)
    if kind != "softmax":  # which reads every item in every step
        model.bert.token.step_by_rows()
        if config.label_smoothing:
            job.report(
                f"warning: pretrain.label_smoothing has no effect: it is of the softmax over all items (pretrain.items), and this is {kind}"
            )
    training, validation = pretraining_sequences(assembly, config, until, job.seed)
    config = settled_pretraining(config, len(training.start))
    own, *attributes = training.vocabulary_columns
    sampler = None if kind == "softmax" else NegativeSampler(item_counts(training, len(model.vocabulary)), config.negatives)
    everything = training
    if earlier is not None:
        earlier.put_into(model)
        known, training = len(training.start), newer_sequences(cast("Assembly", assembly), training, earlier, job.seed)
        job.report(f"continues with {len(training.start):,} of {known:,} sequences")
    length = training.end - training.start
    sequence = np.arange(len(length))

    def loss(rows: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], torch.Tensor]:
        tokens, lengths = gather(training, training.start[rows], training.end[rows])
        if config.leave_out:
            tokens, lengths = leave_out(tokens, lengths, config.leave_out, rng)
        if config.encoder.attention == "causal":
            masked = predict_next(tokens, lengths)
        else:
            masked = mask_items(tokens, lengths, rng, mask_rate=config.mask_rate, last_item_rate=config.last_item_rate, span=config.span)
        if config.training.unknown_rate:
            hide_known(masked.tokens[:, :, own].numpy(), config.training.unknown_rate, rng)
        if config.training.attribute_rate:
            for column in attributes:
                hide_known(masked.tokens[:, :, column].numpy(), config.training.attribute_rate, rng)
        pairs = make_pairs(tokens, lengths, rng) if config.next_segment else None
        negatives = sampler.draw(rng) if sampler else None

        def share_of(part: slice) -> torch.Tensor:
            device, shown = device_of(model), masked_part(masked, part)
            shown = to_device(shown, device)._replace(length=shown.length)  # the encoder looks at it before it moves it
            state = model.states(shown.tokens, shown.length, shown.position)  # (predicted, width)
            if not len(shown.target):
                value = state.sum() * 0.0
            elif negatives is None:
                value = softmax_loss(model, state, shown.target, config.label_smoothing)
            elif kind == "sampled":
                value = sampled_softmax_loss(model, state, shown.target, to_device(negatives, device))
            else:
                value = gbce_loss(model, state, shown.target, to_device(negatives, device), config.gbce_calibration)
            if config.attributes and len(shown.target):
                value = value + config.attributes * attribute_loss(model, state, shown.target)
            value = value * (len(shown.target) / max(len(masked.target), 1))
            if pairs is not None:
                next_segment = next_segment_loss(model, to_device(pairs_part(pairs, part), device))
                value = value + config.next_segment * (next_segment * ((part.stop - part.start) / len(rows)))
            return value

        return share_of

    curve = None
    if len(length) or earlier is None:
        curve = fit(
            model,
            config.training,
            job,
            plan=lambda rng: batch_plan(length, sequence, config.training.batch_size, rng),
            loss=loss,
            validate=lambda: masked_item_accuracy(model, validation),
            to_compile=model.bert,
        )
    # A training leaves its model on the CPU, on which thousands of sequences take minutes of a large encoder.
    found = predict_last_items(model.to(choose_device(config.training, job.processes.local_rank)), validation)
    model.cpu()
    facts = {"sequences": float(len(length)), "tokens": float(length.sum()), **figures_of(found)}
    facts.pop("score")
    obvious = beside_the_obvious(found, item_counts(everything, items))
    if obvious and obvious["gain_low"] <= 0:
        job.report(
            f"warning: the encoder predicts no better than popularity does: a loss of {facts['masked_item_loss']:.3f} beside "
            f"{obvious['popularity_loss']:.3f}, and {facts['masked_item_accuracy']:.4f} of the items right beside "
            f"{obvious['popularity_accuracy']:.4f} (the last click again: {obvious['last_click_accuracy']:.4f}); {LEARN_MORE}"
        )
    return model, curve, facts | obvious
