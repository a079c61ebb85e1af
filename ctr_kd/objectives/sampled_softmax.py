"""Losses of predicting an item from a state: over all items, or over the target and negatives that a batch shares."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.config import PretrainConfig
from ctr_kd.models.bert import MaskedItemModel
from feature_store.special_tokens import SPECIALS

FULL_SOFTMAX_ITEMS = 20_000  # up to here the softmax over all items costs little more than one over shared negatives
POPULARITY_POWER = 0.5  # negatives are drawn by the square root of how often an item occurs: between uniform and popularity


class Negatives(NamedTuple):
    """Items that every row of a batch is compared with.

    Attributes
    ----------
    item : int64 tensor (negatives,)
        Drawn with replacement.
    log_expected : float32 tensor (vocabulary,)
        Logarithm of how often each item is expected among them.
    """

    item: Tensor
    log_expected: Tensor


class NegativeSampler:
    """Draws items by a power of their frequency, specials never.

    Parameters
    ----------
    count : int64 array (vocabulary,)
        How often each index occurs in training; indices that never do count as one.
    negatives : int
        Number of draws.
    """

    def __init__(self, count: np.ndarray, negatives: int) -> None:
        weight = np.maximum(count, 1).astype(np.float64) ** POPULARITY_POWER
        weight[: len(SPECIALS)] = 0.0
        share = weight / weight.sum()
        self.negatives = negatives
        self._cumulative = np.cumsum(share)
        with np.errstate(divide="ignore"):
            self._log_expected = torch.from_numpy(np.log(share * negatives).astype(np.float32))

    def draw(self, rng: np.random.Generator) -> Negatives:
        """The negatives of one batch."""
        item = np.searchsorted(self._cumulative, rng.random(self.negatives) * self._cumulative[-1], side="right")
        return Negatives(torch.from_numpy(item.clip(len(SPECIALS), len(self._cumulative) - 1)), self._log_expected)


def item_loss_kind(config: PretrainConfig, vocabulary: int) -> str:
    """``softmax``, ``sampled`` or ``gbce``: as configured, or by the number of items.

    Examples
    --------
    >>> item_loss_kind(PretrainConfig(), 8930), item_loss_kind(PretrainConfig(), 100_000)
    ('softmax', 'sampled')
    """
    if config.items != "auto":
        return config.items
    return "softmax" if vocabulary <= FULL_SOFTMAX_ITEMS else "sampled"


def softmax_loss(model: MaskedItemModel, state: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy over all items, in nats.

    Parameters
    ----------
    model : MaskedItemModel
    state : float tensor (rows, width)
    target : int64 tensor (rows,)
    smoothing : float
        Share of each target's probability that is spread evenly over all items (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    return F.cross_entropy(model.all_items(state), target, label_smoothing=smoothing)


def sampled_softmax_loss(model: MaskedItemModel, state: Tensor, target: Tensor, negatives: Negatives) -> Tensor:
    """Mean cross entropy of the target among the negatives, in nats, with the log-Q correction.

    Subtracting from a negative's logit the logarithm of how often it is expected in the sample makes the negatives' sum an
    unbiased estimate of the sum over all other items, whatever they are drawn by, so the loss tends to the softmax over all
    items as negatives grow, and popular items, which are drawn often, are not pushed down (Bengio and Senecal 2008,
    doi:10.1109/TNN.2007.912312, section III). A negative that is the row's own target is left out.

    Parameters
    ----------
    model : MaskedItemModel
    state : float tensor (rows, width)
    target : int64 tensor (rows,)
    negatives : Negatives
    """
    own, other = _target_and_negative_logits(model, state, target, negatives)
    other = other - negatives.log_expected.index_select(0, negatives.item)
    return (torch.cat([own.unsqueeze(1), other], dim=1).logsumexp(1) - own).mean()


def gbce_loss(model: MaskedItemModel, state: Tensor, target: Tensor, negatives: Negatives, calibration: float) -> Tensor:
    """Mean generalised binary cross entropy per row, in nats (Petrov and Macdonald 2023, arXiv:2308.07192, equations 13 and 14).

    The positive's probability is raised to ``beta = a (t (1 - 1 / a) + 1 / a)``, with ``a`` the share of the items that is drawn
    and ``t`` the calibration: plain binary cross entropy over few negatives is overconfident.

    Parameters
    ----------
    model : MaskedItemModel
    state : float tensor (rows, width)
    target : int64 tensor (rows,)
    negatives : Negatives
    calibration : float
        t, from 0 (plain) to 1.
    """
    own, other = _target_and_negative_logits(model, state, target, negatives)
    share = min(1.0, len(negatives.item) / max(len(model.vocabulary) - len(SPECIALS) - 1, 1))
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    return -(beta * F.logsigmoid(own) + F.logsigmoid(-other).sum(1)).mean()


def attribute_loss(model: MaskedItemModel, state: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of the targets' attributes, in nats: what kind of item comes is easier to say than which.

    Each attribute is predicted by the same embeddings that represent it as input. An unknown attribute adds nothing to the mean over
    all targets, so that shares of a batch add up whichever of them it lies in; without attributes the loss is zero.

    Parameters
    ----------
    model : MaskedItemModel
    state : float tensor (rows, width)
    target : int64 tensor (rows,)
    """
    tokens = model.vocabulary.index_select(0, target)  # (rows, features): id, attributes, gap
    losses = []
    for feature, table in enumerate(model.bert.token.embeddings()[1:-1], start=1):
        index = tokens[:, feature].long()
        known = index.where(index >= len(SPECIALS), -100)
        losses.append(F.cross_entropy(F.linear(state, table.weight), known, ignore_index=-100, reduction="sum") / len(target))
    return torch.stack(losses).mean() if losses else state.sum() * 0.0


def _target_and_negative_logits(model: MaskedItemModel, state: Tensor, target: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
    """Logits (rows,) of the targets and (rows, negatives) of the negatives; minus infinity where a negative is the target."""
    vector, bias = model.some_items(torch.cat([target, negatives.item]))
    rows = len(target)
    own = (state * vector[:rows]).sum(1) + bias[:rows]
    other = torch.addmm(bias[rows:], state, vector[rows:].T)  # (rows, negatives)
    return own, other.masked_fill(target.unsqueeze(1) == negatives.item, -math.inf)
