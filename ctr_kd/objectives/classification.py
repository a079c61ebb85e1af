"""Hard labels: cross entropy of clicks (one logit), of classes (several), and of several labels (a click logit of each).

Labels have the shape (rows,); of several labels (rows, labels), and so have their logits. Each is learned from the rows that say it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def hard_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross entropy of the labels, in nats.

    With weights it is the weighed sum over the number of labelled rows, not over the sum of the batch's own weights. Divided by that, a row
    would count less in a batch of heavy rows than in another, and the mean gradient over the batches would not be that of all rows.

    Parameters
    ----------
    logits : float tensor (rows, outputs)
        One output is a click logit under a sigmoid; several are classes under a softmax.
    label : float tensor (rows,)
        0 or 1 for a click, the class index otherwise; below zero for an unlabelled row, which has no hard term.
    weight : float tensor (rows,), optional
        How much each row counts, in units of the mean over all rows (:func:`ctr_kd.data.samples.of_mean_one`).

    Returns
    -------
    float tensor ()
        Zero if no row is labelled.
    """
    labelled = label >= 0
    count = labelled.sum().clamp(min=1)
    if logits.shape[1] == 1:
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], label.clamp(min=0), reduction="none")
    else:
        loss = F.cross_entropy(logits, label.clamp(min=0).long(), reduction="none")
    return weighed(loss * labelled, weight).sum() / count


def cross_entropy_share(logits: Tensor, label: Tensor, whole: Tensor, weight: Tensor | None = None) -> Tensor:
    """What a part of a batch adds to the mean cross entropy of the batch's labels; of several labels to the mean over them.

    Parameters
    ----------
    logits : float tensor (rows, outputs)
    label : float tensor (rows,) or (rows, labels)
        Of the part.
    whole : float tensor (batch,) or (batch, labels)
        Of the batch.
    weight : float tensor (rows,), optional
        See :func:`hard_cross_entropy`.

    Returns
    -------
    float tensor ()

    Examples
    --------
    >>> logits, label = torch.tensor([[0.0, 9.0], [0.0, -9.0]]), torch.tensor([[1.0, 1.0], [0.0, -1.0]])
    >>> cross_entropy_share(logits, label, label)  # (log(2) + log(1 + exp(-9))) / 2
    tensor(0.3466)
    """
    if label.ndim == 1:
        return hard_cross_entropy(logits, label, weight) * labelled_share(label, whole)
    shares = [cross_entropy_share(logits[:, [i]], label[:, i], whole[:, i], weight) for i in range(label.shape[1])]
    return torch.stack(shares).mean()


def weighed(by_row: Tensor, weight: Tensor | None) -> Tensor:
    """Values of rows (rows,) times the rows' weights, as they are where there are none."""
    return by_row if weight is None else by_row * weight


def weighed_counts(column: Tensor, weight: Tensor | None, size: int) -> Tensor:
    """How often each of 0, 1, ..., ``size`` - 1 occurs in a column (rows,), a row counting as much as it weighs; shape (size,).

    Weights are added up in double precision: in single, the sum of those of many millions of rows would grow no more.
    """
    if weight is None:
        return torch.bincount(column, minlength=size)
    return torch.bincount(column, weights=weight.double(), minlength=size).to(weight.dtype)


def labelled_share(part: Tensor, whole: Tensor) -> Tensor:
    """Share of a batch's labelled rows that lie in a part of it, given the labels (rows,) of both: float32 (), where the part lies.

    It is not read from there: to read it would wait for all that a GPU was given before, and leave it idle until the backward pass.

    Examples
    --------
    >>> labelled_share(torch.tensor([1.0]), torch.tensor([1.0, -1.0, 0.0]))
    tensor(0.5000)
    """
    return (part >= 0).sum() / max(int((whole >= 0).sum()), 1)


def base_logits(label: Tensor, outputs: int, weight: Tensor | None = None, *, chain: bool = False) -> Tensor:
    """Logits (outputs,) of the labels' own shares: the best answer of a model that knows nothing of the rows.

    Every class counts one row more than it has, so that all logits are finite. ``weight`` is that of :func:`hard_cross_entropy`. Of several
    labels each has its own; with ``chain`` those of further ones are of their shares given a click
    (:func:`ctr_kd.models.layers.chained`), at most 0.99.

    Examples
    --------
    >>> base_logits(torch.tensor([1.0, 0.0, 0.0, -1.0]), 1)  # log(2 / 3)
    tensor([-0.4055])
    """
    if label.ndim == 2:
        logits = torch.cat([base_logits(one, 1, weight) for one in label.T])
        if chain:
            share = logits.sigmoid()
            logits = torch.cat([logits[:1], (share[1:] / share[0]).clamp(max=0.99).logit()])
        return logits
    labelled = label >= 0
    rows = weighed_counts(label[labelled].long(), None if weight is None else weight[labelled], max(outputs, 2)) + 1
    share = (rows / rows.sum()).log()
    return share[1:] - share[:1] if outputs == 1 else share
