"""Distil the pretrained encoder into a light student of the next item: what it says of every item is the student's target."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.config import NextItemStudentConfig, PretrainConfig
from ctr_kd.data.batching import batch_plan, gather, hide_known
from ctr_kd.data.sequences import TokenSequences
from ctr_kd.models.bert import MaskedItemModel, prepend_cls
from ctr_kd.models.next_item import NextItemStudent
from ctr_kd.objectives.distillation import soft_targets
from ctr_kd.objectives.sampled_softmax import FULL_SOFTMAX_ITEMS, NegativeSampler
from ctr_kd.training.devices import choose_device, device_of
from ctr_kd.training.embedding_init import begin_with_teacher
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit
from ctr_kd.training.pretrain import item_counts, masked_item_accuracy, pretraining_sequences
from feature_store.special_tokens import SPECIALS


class Asked(NamedTuple):
    """Prefixes of some sequences, and the items that follow them.

    Attributes
    ----------
    sequence : int64 array (prefixes,)
        Which sequence each is a prefix of, ascending.
    length : int64 array (prefixes,)
        Its clicks, 0 included.
    target : int64 array (prefixes,)
    """

    sequence: NDArray
    length: NDArray
    target: NDArray


def asked_of(tokens: np.ndarray, length: np.ndarray, every_prefix: bool, rng: np.random.Generator) -> Asked:
    """All prefixes that an item of the vocabulary follows, or of each sequence one that is drawn.

    Parameters
    ----------
    tokens : int32 array (sequences, longest, features)
    length : int64 array (sequences,)
    every_prefix : bool
        A causal encoder answers all in one pass; one that reads both sides reads each by itself.
    rng : numpy Generator
    """
    ids = tokens[:, :, 0]
    wanted = ids >= len(SPECIALS)
    if not every_prefix:
        wanted &= np.arange(ids.shape[1]) == rng.integers(0, np.maximum(length, 1))[:, None]
    sequence, before = np.nonzero(wanted)
    return Asked(sequence, before, ids[sequence, before].astype(np.int64))


@torch.no_grad()
def teacher_states(teacher: MaskedItemModel, tokens: Tensor, length: Tensor, asked: Asked) -> Tensor:
    """What the encoder makes of each prefix, float (prefixes, width): with causal attention in one pass over the sequences.

    Parameters
    ----------
    teacher : MaskedItemModel
        In eval mode.
    tokens : int32 tensor (sequences, longest, features)
    length : int64 tensor (sequences,)
    asked : Asked
    """
    sequence, before = torch.from_numpy(asked.sequence).to(length.device), torch.from_numpy(asked.length).to(length.device)
    if teacher.bert.config.attention == "causal":
        shown, shown_length = prepend_cls(tokens, length)
        return teacher.states(shown, shown_length, sequence * shown.shape[1] + before)
    return teacher.history_state(tokens.index_select(0, sequence), before)


def distil_next_items(
    assembly: TokenSequences,
    teacher: MaskedItemModel,
    pretraining: PretrainConfig,
    config: NextItemStudentConfig,
    job: TrainingJob,
    *,
    until: int | None = None,
) -> tuple[NextItemStudent, LearningCurve]:
    """Train the student on the sequences that the encoder was pretrained on; nothing later is seen.

    The loss of a prefix is ``alpha`` times the cross entropy of the item that followed, and for the rest Hinton's soft targets (2015,
    arXiv:1503.02531, section 2) over the items.

    Parameters
    ----------
    assembly : TokenSequences
    teacher : MaskedItemModel
        The pretrained encoder; its weights are not changed, and it is on the CPU in the end, as the student is.
    pretraining : PretrainConfig
        That of the encoder: the same users are held out.
    config : NextItemStudentConfig
    job : TrainingJob
    until : int, optional
        Clicks known from this time on (microseconds UTC) are not seen.

    Raises
    ------
    TrainingError
        When the student is wider than the encoder, or the loss is not finite.
    """
    torch.manual_seed(job.seed)
    items, width = len(teacher.vocabulary), config.width or teacher.bert.config.width
    student = NextItemStudent(assembly.signature(), teacher.vocabulary.clone(), width, config)
    begin_with_teacher(student.token, teacher.bert.token, teacher.vocabulary)
    training, validation = pretraining_sequences(assembly, pretraining, until, job.seed)
    counts = item_counts(training, items) if items > FULL_SOFTMAX_ITEMS else np.zeros(items, np.int64)  # a pass over all sequences
    sampler = NegativeSampler(counts, config.negatives) if items > FULL_SOFTMAX_ITEMS else None
    length, whole = training.end - training.start, np.arange(items)
    share = counts / max(int(counts.sum()), 1)
    every_prefix = teacher.bert.config.attention == "causal"
    teacher.eval().to(choose_device(config.training, job.processes.local_rank))
    with torch.no_grad():
        taught = teacher.bert.token(teacher.vocabulary)  # (items, width)

    def loss(rows: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], Tensor]:
        tokens, lengths = gather(training, training.start[rows], training.end[rows])
        asked = asked_of(tokens, lengths, every_prefix, rng)
        read = tokens[:, :, 0].astype(np.int64)
        if config.training.unknown_rate:
            hide_known(read, config.training.unknown_rate, rng)
        negatives = None if sampler is None else sampler.draw(rng)
        among = whole[len(SPECIALS) :] if negatives is None else np.union1d(asked.target, negatives.item.numpy())
        log_included = None if negatives is None else log_inclusion(negatives.log_expected.numpy(), share * len(asked.target))
        embedded = whole if negatives is None else np.union1d(among, read)  # the items that this step needs

        def share_of(part: slice) -> Tensor:
            device = device_of(student)
            put = lambda array: torch.from_numpy(array).to(device)  # noqa: E731
            inside = (asked.sequence >= part.start) & (asked.sequence < part.stop)
            own = Asked(asked.sequence[inside] - part.start, asked.length[inside], asked.target[inside])
            vectors = student.item_vectors(put(embedded))
            states = student.prefixes(put(np.searchsorted(embedded, read[part])), vectors)
            state = states.flatten(0, 1).index_select(0, put(own.sequence * states.shape[1] + own.length))  # (prefixes, width)
            if not len(own.target):
                return state.sum() * 0.0
            compared, target = put(among), put(np.searchsorted(among, own.target))
            logits = F.linear(state, vectors.index_select(0, put(np.searchsorted(embedded, among))), student.bias.index_select(0, compared))
            clicked = logits if log_included is None else corrected(logits, target, put(log_included[among]))
            value = config.alpha * F.cross_entropy(clicked, target)
            if config.alpha < 1:
                with torch.no_grad():
                    said = teacher_states(teacher, put(tokens[part]), put(lengths[part]), own)
                    soft = F.linear(said, taught.index_select(0, compared), teacher.bias.index_select(0, compared))
                value = value + (1 - config.alpha) * soft_targets(logits, soft, config.temperature).mean()
            return value * (len(own.target) / max(len(asked.target), 1))

        return share_of

    curve = fit(
        student,
        config.training,
        job,
        plan=lambda rng: batch_plan(length, np.arange(len(length)), config.training.batch_size, rng),
        loss=loss,
        validate=lambda: masked_item_accuracy(student, validation),
    )
    teacher.cpu()
    return student, curve


def log_inclusion(log_drawn: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """Logarithm of how probable it is that a step compares each item, float32 (items,): it is drawn, or clicked by somebody in the batch.

    Parameters
    ----------
    log_drawn : float array (items,)
        Logarithm of how often each is expected among the draws.
    clicked : float array (items,)
        How often each is expected among the batch's targets.
    """
    expected = np.exp(log_drawn.astype(np.float64)) + clicked
    return np.log(-np.expm1(-np.maximum(expected, 1e-12))).astype(np.float32)


def corrected(logits: Tensor, target: Tensor, log_included: Tensor) -> Tensor:
    """Logits (rows, items) of a sample, so that the sum of their exponentials estimates that over all items without bias.

    Each item counts by one over the probability that it is in the sample (Horvitz and Thompson 1952, doi:10.1080/01621459.1952.10483446),
    but for a row's own, which is there for certain.
    """
    own = F.one_hot(target, logits.shape[1]).bool()
    return torch.where(own, logits, logits - log_included)
