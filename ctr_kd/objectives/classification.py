"""Hard labels: cross entropy of clicks (one logit) and of classes (several)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def hard_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross entropy of the labels, in nats.

    Parameters
    ----------
    logits : float tensor (rows, outputs)
        One output is a click logit under a sigmoid; several are classes under a softmax.
    label : float tensor (rows,)
        0 or 1 for a click, the class index otherwise; below zero for an unlabelled row, which has no hard term.

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
    return (loss * labelled).sum() / count


def labelled_share(part: Tensor, whole: Tensor) -> float:
    """Share of a batch's labelled rows that lie in a part of it, given the labels (rows,) of both.

    Examples
    --------
    >>> labelled_share(torch.tensor([1.0]), torch.tensor([1.0, -1.0, 0.0]))
    0.5
    """
    return int((part >= 0).sum()) / max(int((whole >= 0).sum()), 1)


def base_logits(label: Tensor, outputs: int) -> Tensor:
    """Logits (outputs,) of the labels' own shares: the best answer of a model that knows nothing of the rows.

    Every class counts one row more than it has, so that all logits are finite.

    Examples
    --------
    >>> base_logits(torch.tensor([1.0, 0.0, 0.0, -1.0]), 1)  # log(2 / 3)
    tensor([-0.4055])
    """
    rows = torch.bincount(label[label >= 0].long(), minlength=max(outputs, 2)) + 1
    share = (rows / rows.sum()).log()
    return share[1:] - share[:1] if outputs == 1 else share
