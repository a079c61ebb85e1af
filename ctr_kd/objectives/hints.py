"""What a student learns from its teacher's hidden states, whatever the two widths: hints per history, and how histories relate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.config import HintsConfig
from ctr_kd.objectives.classification import weighed
from ctr_kd.objectives.distillation import mean_by


def hidden_hint(projected: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the student's projected states from the teacher's, its mean over the width.

    Romero et al. 2015 (FitNets, arXiv:1412.6550, section 2.2, equation 3): a learned regressor brings the student's state to the
    teacher's width, and serves training alone.

    Parameters
    ----------
    projected, teacher : float tensors (histories, teacher's width)
        No gradient flows into the teacher's.

    Returns
    -------
    float tensor (histories,)

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if projected.shape != teacher.shape:
        raise ValueError(f"projected and teacher states differ in shape: {tuple(projected.shape)} and {tuple(teacher.shape)}")
    return (projected - teacher.detach()).square().mean(1)


def relation_hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance between the two models' similarities of each history to all others; the widths may differ.

    Tung and Mori 2019 (arXiv:1907.09682, section 3): the rows of Q Q^T, each divided by its length, are compared. The paper
    divides their sum by the square of their number; its mean over the rows does not depend on the batch size.

    Parameters
    ----------
    student : float tensor (histories, student's width)
    teacher : float tensor (histories, teacher's width)
        No gradient flows into it.

    Returns
    -------
    float tensor (histories,)
        From 0, where both models find the same histories alike, to 4.

    Raises
    ------
    ValueError
        When the numbers of histories differ.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher differ in their number of histories: {len(student)} and {len(teacher)}")
    return (_similarity(student) - _similarity(teacher.detach())).square().sum(1)


def hints_loss(
    student: Tensor,
    teacher: Tensor,
    segment_of_row: Tensor,
    projection: nn.Module,
    config: HintsConfig,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    """The configured hints, weighed: a hidden hint counts a history once per row, as all terms of rows do.

    In the other hint, which is one of histories, each counts as much as its rows do on average.

    Parameters
    ----------
    student : float tensor (histories, student's width)
    teacher : float tensor (histories, teacher's width)
    segment_of_row : int64 tensor (rows,)
        History of each row.
    projection : Module
        From the student's width to the teacher's.
    config : HintsConfig
    weight : float tensor (rows,), optional
        See :func:`ctr_kd.objectives.classification.hard_cross_entropy`.

    Returns
    -------
    float tensor ()
    """
    value = student.new_zeros(())
    if config.hidden:
        value = value + config.hidden * weighed(hidden_hint(projection(student), teacher).index_select(0, segment_of_row), weight).mean()
    if config.relation:
        of_history = None if weight is None else mean_by(segment_of_row, weight, len(student))
        value = value + config.relation * weighed(relation_hint(student, teacher), of_history).mean()
    return value


def _similarity(states: Tensor) -> Tensor:
    return F.normalize(states @ states.T, dim=1)  # (histories, histories)
