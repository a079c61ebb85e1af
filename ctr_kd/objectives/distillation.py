"""What a student learns from its teacher's logits. Soft terms need no label, so unlabelled rows take part."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ctr_kd.objectives.classification import hard_cross_entropy


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross entropy between the softened distributions, times T^2, minus the teacher's entropy (so equality gives zero).

    Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 2: the factor T^2 keeps the gradient's scale when the
    temperature changes. One output is a Bernoulli distribution under a sigmoid, several are a softmax.

    Parameters
    ----------
    student, teacher : float tensors (rows, outputs)
        Logits; no gradient flows into the teacher's.
    temperature : float
        Above zero.

    Raises
    ------
    ValueError
        When the shapes differ or the temperature is not above zero.
    """
    _same_shape(student, teacher)
    if temperature <= 0:
        raise ValueError(f"soft targets need a temperature above zero, not {temperature}")
    s, t = student / temperature, teacher.detach() / temperature
    if student.shape[1] == 1:
        # A click is a choice between the logits z and 0, so both cases are one formula.
        s, t = F.pad(s, (0, 1)), F.pad(t, (0, 1))
    return F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True) * temperature**2


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the logits (Ba and Caruana 2014; Tang et al. 2019, arXiv:1903.12136, section 3.2)."""
    _same_shape(student, teacher)
    return F.mse_loss(student, teacher.detach())


def distillation_loss(
    student: Tensor,
    teacher: Tensor | None,
    label: Tensor,
    alpha: float,
    soft: str,
    temperature: float,
    hard_share: float = 1.0,
    soft_share: float = 1.0,
) -> Tensor:
    """alpha * hard cross entropy + (1 - alpha) * soft term; ``alpha = 1`` is the labels alone.

    Parameters
    ----------
    student : float tensor (rows, outputs)
    teacher : float tensor (rows, outputs) or None
        May be None when ``alpha`` is 1.
    label : float tensor (rows,)
    alpha : float
    soft : {"logit_mse", "soft_targets", "none"}
    temperature : float
        Of the soft targets; ignored otherwise.
    hard_share, soft_share : float
        Where these rows are a part of a batch: their share of its labelled rows and of all its rows. The losses of all parts
        then add up to the batch's.
    """
    if alpha == 1 or teacher is None:
        return hard_cross_entropy(student, label) * hard_share
    term = logit_mse(student, teacher) if soft == "logit_mse" else soft_targets(student, teacher, temperature)
    term = term * soft_share
    return alpha * (hard_cross_entropy(student, label) * hard_share) + (1 - alpha) * term if alpha else term


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher logits differ in shape: {tuple(student.shape)} and {tuple(teacher.shape)}")
