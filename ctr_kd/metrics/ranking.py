"""Metrics of order: AUC over all rows, and AUC inside each user or request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctr_kd.metrics.checks import Floats, Integers, UndefinedMetric, check_rows, check_weight, group_codes, require_both_labels

PACKED_BITS = 63  # bits that group and rank may take together beside the label in one 64-bit integer
Weighting = Literal["rows", "clicks", "mean"]


def auc_score(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a click scores above a non-click, a tie counting one half.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
        Probabilities or logits; only their order matters.
    weight : array, shape (rows,), optional
        Non-negative weight of each row; weight 2 is the same as the row twice.

    Raises
    ------
    UndefinedMetric
        When only one label occurs (with a weight above zero), or there are no rows.

    References
    ----------
    Hanley & McNeil (1982), The meaning and use of the area under a receiver operating characteristic curve.

    Examples
    --------
    >>> auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    >>> auc_score([0, 1, 1], [0.2, 0.2, 0.9])
    0.75
    >>> auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], weight=[1, 2, 1, 1]) == auc_score([0, 0, 0, 1, 1], [0.1, 0.4, 0.4, 0.35, 0.8])
    True
    """
    clicked, values = check_rows(label, score)
    weights = None if weight is None else check_weight(weight, len(values))
    if weights is not None and not weights.all():
        clicked, values, weights = clicked[weights > 0], values[weights > 0], weights[weights > 0]
    require_both_labels(clicked)
    if weights is None:
        # Two sorts of values and a search are several times faster than one argsort of all rows.
        positives, negatives = np.sort(values[clicked]), np.sort(values[~clicked])
        below = np.searchsorted(negatives, positives, "left").sum(dtype=np.int64)
        not_above = np.searchsorted(negatives, positives, "right").sum(dtype=np.int64)
        return float((below + not_above) / (2 * len(positives) * len(negatives)))
    positives, positive_weights = _sorted_pair(values[clicked], weights[clicked])
    negatives, negative_weights = _sorted_pair(values[~clicked], weights[~clicked])
    cumulative = np.concatenate([[0.0], np.cumsum(negative_weights)])
    twice_below = cumulative[np.searchsorted(negatives, positives, "left")] + cumulative[np.searchsorted(negatives, positives, "right")]
    area = positive_weights @ twice_below / (2 * positive_weights.sum() * cumulative[-1])
    return float(min(area, 1.0))  # sums of weights in different orders can pass 1 by a rounding error


@dataclass(frozen=True)
class GroupedAuc:
    """AUC of every group (user, request) in which both labels occur.

    Attributes
    ----------
    group : array, shape (defined groups,)
        Identifiers, ascending.
    auc, rows, clicks : arrays, shape (defined groups,)
        Of weighted rows, ``rows`` and ``clicks`` are sums of weights.
    undefined : int
        Groups left out because all of their rows have the same label.
    """

    group: NDArray
    auc: Floats
    rows: Integers | Floats
    clicks: Integers | Floats
    undefined: int

    def weights(self, weighting: Weighting = "rows") -> Floats:
        """Weight of each group in the average."""
        choices = {"rows": self.rows, "clicks": self.clicks, "mean": np.ones(len(self.rows))}
        if weighting not in choices:
            raise ValueError(f"weighting must be one of rows, clicks and mean, not {weighting!r}")
        return np.asarray(choices[weighting], np.float64)

    def average(self, weighting: Weighting = "rows") -> float:
        """GAUC: the weighted average over the groups; raises `UndefinedMetric` when no group has both labels."""
        if not len(self.auc):
            raise UndefinedMetric(f"none of the {self.undefined} groups has both labels" if self.undefined else "there are no rows")
        return float(np.average(self.auc, weights=self.weights(weighting)))


def grouped_auc(label: ArrayLike, score: ArrayLike, group: ArrayLike, weight: ArrayLike | None = None) -> GroupedAuc:
    """AUC inside each group, from one sort of all rows.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
    group : array of integers or strings, shape (rows,)
        User or request of each row.
    weight : array, shape (rows,), optional
        Of each row, also in the ``rows`` and ``clicks`` of its group; weight 2 is the same as the row twice, weight 0 as no row.

    Examples
    --------
    >>> result = grouped_auc([0, 1, 0, 1, 1], [0.1, 0.9, 0.8, 0.3, 0.5], ["ann", "ann", "bob", "bob", "eve"])
    >>> [str(name) for name in result.group], result.auc.tolist(), result.undefined
    (['ann', 'bob'], [1.0, 0.0], 1)
    """
    clicked, values = check_rows(label, score)
    names, code = group_codes(group)
    if len(code) != len(values):
        raise ValueError(f"group has {len(code)} rows, score has {len(values)}")
    if weight is not None:
        return _weighed_groups(clicked, values, names, code, check_weight(weight, len(values)))
    if not len(values):
        return GroupedAuc(names, np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)

    rank = _dense_rank(values)
    rank_bits = int(rank.max()).bit_length()
    if int(code.max()).bit_length() + rank_bits < PACKED_BITS:
        # group | rank | label in one integer: sorting plain integers beats a lexsort by an order of magnitude.
        key = np.sort((code << (rank_bits + 1)) | (rank << 1) | clicked)
        clicked, tie, code = (key & 1).astype(bool), key >> 1, key >> (rank_bits + 1)
        new_tie = _starts(tie)
    else:
        order = np.lexsort((rank, code))
        clicked, rank, code = clicked[order], rank[order], code[order]
        new_tie = np.flatnonzero(np.r_[True, (code[1:] != code[:-1]) | (rank[1:] != rank[:-1])])

    # Whole numbers throughout, so the result is exact whatever the number of rows.
    clicks = np.add.reduceat(clicked, new_tie, dtype=np.int64)
    others = np.diff(np.append(new_tie, len(clicked))) - clicks
    code = code[new_tie]
    new_group = _starts(code)
    group_clicks, group_others = np.add.reduceat(clicks, new_group), np.add.reduceat(others, new_group)
    earlier_groups = np.repeat(np.cumsum(group_others) - group_others, np.diff(np.append(new_group, len(code))))
    below = np.cumsum(others) - others - earlier_groups
    twice_wins = np.add.reduceat(clicks * (2 * below + others), new_group)
    defined = (group_clicks > 0) & (group_others > 0)
    pairs = group_clicks[defined] * group_others[defined]
    return GroupedAuc(
        group=names[code[new_group][defined]],
        auc=twice_wins[defined] / (2 * pairs),
        rows=(group_clicks + group_others)[defined],
        clicks=group_clicks[defined],
        undefined=int((~defined).sum()),
    )


def gauc_score(
    label: ArrayLike, score: ArrayLike, user: ArrayLike, weighting: Weighting = "rows", weight: ArrayLike | None = None
) -> float:
    """Group AUC: the AUC inside each user, averaged over users.

    Users whose rows all have one label have no AUC and are left out; `grouped_auc` says how many they are.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
    user : array of integers or strings, shape (rows,)
    weighting : {'rows', 'clicks', 'mean'}
        Weight a user by its rows (impressions), by its clicks, or all users alike.
    weight : array, shape (rows,), optional
        Of each row, see `grouped_auc`.

    Raises
    ------
    UndefinedMetric
        When no user has both labels.

    References
    ----------
    Zhou et al. (2018), Deep Interest Network for Click-Through Rate Prediction, section 6.1.

    Examples
    --------
    >>> gauc_score([0, 1, 0, 0, 1], [0.1, 0.9, 0.1, 0.8, 0.3], user=[1, 1, 2, 2, 2])
    0.7
    >>> gauc_score([0, 1, 0, 0, 1], [0.1, 0.9, 0.1, 0.8, 0.3], user=[1, 1, 2, 2, 2], weighting="mean")
    0.75
    """
    return grouped_auc(label, score, user, weight).average(weighting)


def roc_points(label: ArrayLike, score: ArrayLike, points: int = 200, weight: ArrayLike | None = None) -> list[tuple[float, float]]:
    """ROC curve as at most `points` pairs (false positive rate, true positive rate), from (0, 0) to (1, 1).

    The points kept lie about evenly along the curve; tied scores give one straight piece.

    Parameters
    ----------
    label : array of 0 and 1, shape (rows,)
    score : array, shape (rows,)
    points : int
    weight : array, shape (rows,), optional

    Raises
    ------
    UndefinedMetric
        When only one label occurs (with a weight above zero).

    Examples
    --------
    >>> roc_points([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    """
    clicked, values = check_rows(label, score)
    weights = None if weight is None else check_weight(weight, len(values))
    if weights is not None:
        clicked, values, weights = clicked[weights > 0], values[weights > 0], weights[weights > 0]
    require_both_labels(clicked)
    order = np.argsort(values)[::-1]
    values, clicked = values[order], clicked[order]
    ends = np.append(_starts(values)[1:], len(values)) - 1

    def share(of: NDArray[np.bool_]) -> Floats:
        passed = np.cumsum(of if weights is None else of * weights[order])
        return np.append(0, passed[ends]) / passed[-1]

    true, false = share(clicked), share(~clicked)
    kept = np.unique(np.searchsorted(true + false, np.linspace(0, 2, points))) if len(true) > points else np.arange(len(true))
    return list(zip(false[kept].tolist(), true[kept].tolist(), strict=True))


def _weighed_groups(clicked: NDArray[np.bool_], values: NDArray, names: NDArray, code: Integers, weights: Floats) -> GroupedAuc:
    """:func:`grouped_auc` of weighted rows: the same sums, of weights in place of rows, hence in floats."""
    kept = weights > 0
    clicked, values, code, weights = clicked[kept], values[kept], code[kept], weights[kept]
    if not len(values):
        return GroupedAuc(names[:0], np.zeros(0), np.zeros(0), np.zeros(0), 0)
    order = np.lexsort((values, code))
    clicked, values, code, weights = clicked[order], values[order], code[order], weights[order]
    new_tie = np.flatnonzero(np.r_[True, (code[1:] != code[:-1]) | (values[1:] != values[:-1])])
    clicks, others = (np.add.reduceat(np.where(of, weights, 0.0), new_tie) for of in (clicked, ~clicked))
    code = code[new_tie]
    new_group = _starts(code)
    group_clicks, group_others = np.add.reduceat(clicks, new_group), np.add.reduceat(others, new_group)
    earlier_groups = np.repeat(np.cumsum(group_others) - group_others, np.diff(np.append(new_group, len(code))))
    below = np.cumsum(others) - others - earlier_groups
    twice_wins = np.add.reduceat(clicks * (2 * below + others), new_group)
    defined = (group_clicks > 0) & (group_others > 0)
    return GroupedAuc(
        group=names[code[new_group][defined]],
        auc=np.clip(twice_wins[defined] / (2 * group_clicks[defined] * group_others[defined]), 0.0, 1.0),
        rows=(group_clicks + group_others)[defined],
        clicks=group_clicks[defined],
        undefined=int((~defined).sum()),
    )


def _dense_rank(values: NDArray) -> Integers:
    order = np.argsort(values)
    ordered = values[order]
    rank = np.empty(len(values), np.int64)
    rank[order] = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]])
    return rank


def _sorted_pair(values: NDArray, weights: Floats) -> tuple[NDArray, Floats]:
    order = np.argsort(values)
    return values[order], weights[order]


def _starts(values: NDArray) -> Integers:
    """Positions at which a run of equal values begins."""
    return np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
