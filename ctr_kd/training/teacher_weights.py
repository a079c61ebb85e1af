"""Weights of several teachers that change from row to row: who is right more often where the user, the item and the time are like these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ctr_kd.data.samples import Samples, Signature
from feature_store.special_tokens import UNKNOWN


@dataclass(frozen=True)
class TeacherWeights:
    """Weights of the teachers as a softmax of a linear function of a row's context.

    A mixture of experts whose experts are fixed (Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79), mixed by their logits.

    Attributes
    ----------
    teachers : tuple of str
    bias : float64 array (teachers,)
    slope : float64 array (features, teachers)
        Of :func:`row_context`.
    """

    teachers: tuple[str, ...]
    bias: np.ndarray
    slope: np.ndarray

    def weights(self, context: np.ndarray) -> dict[str, np.ndarray]:
        """Weight (rows, 1) of each teacher in each row; they are above zero and add up to 1."""
        score = context @ self.slope + self.bias
        share = np.exp(score - score.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        return {name: share[:, i : i + 1] for i, name in enumerate(self.teachers)}

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as weighting.json has them."""
        return {"teachers": list(self.teachers), "bias": self.bias.tolist(), "slope": self.slope.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TeacherWeights:
        """What :meth:`to_dict` gave."""
        return cls(tuple(values["teachers"]), np.array(values["bias"]), np.array(values["slope"]))


def row_context(samples: Samples, signature: Signature) -> np.ndarray:
    """What the weights may depend on, all of it known at the time of the row: float64 (rows, 2 * dense inputs + 3).

    The place of each dense input between the quantiles of the training rows, from -0.5 to 0.5 (0 where it is null), and whether it is null;
    the logarithm of the history's length, whether it is empty, and whether the candidate is unseen.

    The teachers' logits are no part of it. Those of rows that a teacher was trained on are surer than those of any other row, and weights
    that read them would mean another thing in training rows than in the rows that they were fitted on.

    Parameters
    ----------
    samples : Samples
    signature : Signature
        Of the samples: their dense inputs, and the longest history.
    """
    length = samples.a.end - samples.a.start
    columns = [
        np.log1p(length) / np.log1p(max(signature.max_length, 1)) - 0.5,
        length == 0,
        samples.b.pool[samples.b.start, 0] == UNKNOWN,
    ]
    for i, edges in enumerate(signature.dense.values()):
        value = samples.dense[:, i]
        place = np.interp(value, edges, np.linspace(-0.5, 0.5, len(edges)))
        columns += [np.where(np.isnan(value), 0.0, place), np.isnan(value)]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def fit_teacher_weights(
    logits: Mapping[str, np.ndarray],
    context: np.ndarray,
    label: np.ndarray,
    fixed: Mapping[str, float],
    steps: int = 200,
    *,
    row_weight: np.ndarray | None = None,
) -> TeacherWeights:
    """Fit the weights to labels by log loss, drawn towards the fixed ones by a normal prior of unit variance.

    A scale and an offset of the combined logit are fitted beside them and not kept: the weights shall say which teacher tells rows
    apart, not make up for a rate that both of them miss.

    Parameters
    ----------
    logits : mapping of str to float array (rows, 1)
        Of rows that no teacher was trained on.
    context : float array (rows, features)
    label : float array (rows,)
        0 or 1.
    fixed : mapping of str to float
        Weight of each teacher before anything is learned.
    steps : int
        Most iterations of L-BFGS.
    row_weight : float array (rows,), optional
        How much each row counts, of mean 1.

    Raises
    ------
    ValueError
        When a teacher has more than one output, or the shapes differ.

    Examples
    --------
    >>> same = np.array([[2.0], [-1.0]])
    >>> learned = fit_teacher_weights({"a": same, "b": same}, np.ones((2, 1)), np.array([1.0, 0.0]), {"a": 0.25, "b": 0.75})
    >>> {name: weight.round(4).ravel().tolist() for name, weight in learned.weights(np.ones((2, 1))).items()}
    {'a': [0.25, 0.25], 'b': [0.75, 0.75]}
    """
    names = tuple(logits)
    wrong = {name: logits[name].shape for name in names if logits[name].shape != (len(label), 1)}
    if wrong:
        raise ValueError(f"weights of teachers are learned for clicks, one logit a row; {len(label)} rows have logits of shape {wrong}")
    experts = torch.from_numpy(np.concatenate([logits[name] for name in names], axis=1).astype(np.float64))  # (rows, teachers)
    features, clicked = torch.from_numpy(context), torch.from_numpy(label.astype(np.float64))
    counts = None if row_weight is None else torch.from_numpy(row_weight.astype(np.float64))
    prior = torch.tensor([fixed[name] for name in names], dtype=torch.float64).log()
    shift = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    slope = torch.zeros(context.shape[1], len(names), dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)  # logarithm of the scale, and the offset
    optimizer = torch.optim.LBFGS([shift, slope, scale], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        combined = (torch.softmax(features @ slope + prior + shift, dim=1) * experts).sum(1)
        penalty = (shift.square().sum() + slope.square().sum()) / (2 * len(clicked))
        loss = F.binary_cross_entropy_with_logits(scale[0].exp() * combined + scale[1], clicked, counts) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    return TeacherWeights(names, (prior + shift).detach().numpy(), slope.detach().numpy())
