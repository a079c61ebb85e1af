"""What a student learns from its teacher's logits. Every term has a value per row (or request) and needs no label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.config import SOFT_TERMS, DistillConfig
from ctr_kd.objectives.classification import weighed, weighed_counts
from feature_store.plugins import PluginError, load_function


def log_softened(logits: Tensor, temperature: float) -> Tensor:
    """Logarithm of the distribution that logits give at a temperature (Hinton et al. 2015, arXiv:1503.02531, section 2, equation 1).

    Towards 0 it becomes one-hot, towards infinity uniform. One output is a click: a choice between the logits z and 0, so that
    its sigmoid and the softmax of several outputs are one formula.

    Parameters
    ----------
    logits : float tensor (rows, outputs)
    temperature : float
        Above zero.

    Returns
    -------
    float tensor (rows, classes)
        ``classes`` is 2 (click, no click) for one output.

    Raises
    ------
    ValueError
        When the temperature is not above zero.

    Examples
    --------
    >>> log_softened(torch.tensor([[2.0]]), 2.0).exp()
    tensor([[0.7311, 0.2689]])
    """
    if not temperature > 0:
        raise ValueError(f"soft targets need a temperature above zero, not {temperature}")
    scaled = logits / temperature
    return (F.pad(scaled, (0, 1)) if logits.shape[1] == 1 else scaled).log_softmax(1)


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross entropy CE(p, q) of the softened distributions, times T^2 (Hinton et al. 2015, arXiv:1503.02531, section 2).

    The factor T^2 keeps the gradient's scale when the temperature changes.

    Parameters
    ----------
    student, teacher : float tensors (rows, outputs)
        Logits; no gradient flows into the teacher's.
    temperature : float
        Above zero.

    Returns
    -------
    float tensor (rows,)
        In nats times T^2; least, namely the teacher's entropy, where the student equals the teacher.

    Raises
    ------
    ValueError
        When the shapes differ or the temperature is not above zero.
    """
    _same_shape(student, teacher)
    p, q = log_softened(student, temperature), log_softened(teacher.detach(), temperature)
    return -(q.exp() * p).sum(1) * temperature**2


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(q || p) of the softened distributions, times T^2: :func:`soft_targets` without the teacher's entropy.

    The gradient is the same; the value is what is left to learn. Parameters and errors are those of :func:`soft_targets`.

    Returns
    -------
    float tensor (rows,)
        Zero where the student equals the teacher.
    """
    _same_shape(student, teacher)
    p, q = log_softened(student, temperature), log_softened(teacher.detach(), temperature)
    return (q.exp() * (q - p)).sum(1) * temperature**2


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the logits, its mean over the outputs (Tang et al. 2019, arXiv:1903.12136, section 3.2).

    Parameters
    ----------
    student, teacher : float tensors (rows, outputs)
        Logits; no gradient flows into the teacher's.

    Returns
    -------
    float tensor (rows,)

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    _same_shape(student, teacher)
    return (student - teacher.detach()).square().mean(1)


def listwise(student: Tensor, teacher: Tensor, request: Tensor, temperature: float) -> Tensor:
    """KL of the candidates' top-one probabilities within each request, times T^2 (Cao et al. 2007, doi:10.1145/1273496.1273513).

    A request's click logits become a softmax over its candidates (ListNet, section 4.2), the teacher's the target: what counts is
    their order and distance, not their level. A request of one candidate has nothing to rank, and its term is zero.

    Parameters
    ----------
    student, teacher : float tensors (rows, 1)
        Click logits; no gradient flows into the teacher's.
    request : int64 tensor (rows,)
        Rows of one request are adjacent.
    temperature : float
        Above zero.

    Returns
    -------
    float tensor (requests,)

    Raises
    ------
    ValueError
        When the shapes differ, there are several outputs, or the temperature is not above zero.
    """
    _same_shape(student, teacher)
    if student.shape[1] != 1:
        raise ValueError(f"a listwise term ranks candidates by their click logit, and there are {student.shape[1]} outputs")
    size = torch.unique_consecutive(request, return_counts=True)[1]
    offset = torch.arange(int(size.max()), device=size.device)
    position = (size.cumsum(0) - size).unsqueeze(1) + offset  # (requests, longest)
    absent = offset >= size.unsqueeze(1)
    position = position.masked_fill(absent, 0).flatten()

    def lists(logits: Tensor) -> Tensor:  # an absent candidate is one that nobody would choose, in both distributions alike
        return logits[:, 0].index_select(0, position).view_as(absent).masked_fill(absent, -1e6 * temperature)

    return kl_divergence(lists(student), lists(teacher), temperature).where(size > 1, 0.0)


def label_gate(teacher: Tensor, label: Tensor, base: Tensor) -> Tensor:
    """How far to trust the teacher in each row: less where it is wrong on the label.

    min(1, q(y) / base(y)): a teacher that gives the label at least the probability that the training rows' rate gives it is trusted
    fully, one that gives it half of that by half. Compared with the rate, a cautious prediction of a rare click is not wrong. The
    weight by the teacher's own loss on the label is that of Zhang et al. 2022 (arXiv:2201.00007), for one teacher.

    Parameters
    ----------
    teacher : float tensor (rows, outputs)
        Logits.
    label : float tensor (rows,)
        Below zero for an unlabelled row, in which the teacher is trusted.
    base : float tensor (classes,)
        Share of each class in training; for clicks (rate, 1 - rate).

    Returns
    -------
    float tensor (rows,)
        From 0 to 1, without gradient.
    """
    q = log_softened(teacher.detach(), 1.0)
    known = label.clamp(min=0).long()
    column = 1 - known if teacher.shape[1] == 1 else known  # a click is the first, see log_softened
    right = (q.gather(1, column.unsqueeze(1)).squeeze(1) - base.index_select(0, column).log()).exp()
    return right.clamp(max=1.0).where(label >= 0, 1.0)


def term_of_plugin(name: str, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
    """A term of another package: a function of the logits of student and teacher, which has no gradient, and the label, to a loss per row.

    Parameters
    ----------
    name : str
        Among the entry points ``ctr_kd.objectives``.
    student, teacher : float tensors (rows, outputs)
        Logits.
    label : float tensor (rows,)
        Below zero for an unlabelled row.

    Returns
    -------
    float tensor (rows,)

    Raises
    ------
    PluginError
        When it raises, or returns anything else.
    """
    function = load_function("ctr_kd.objectives", name, SOFT_TERMS)
    try:
        by_row = function(student, teacher.detach(), label)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"distill.soft: the objective {name!r} raises {said}") from error
    if not isinstance(by_row, Tensor) or by_row.shape != (len(student),):
        what = tuple(by_row.shape) if isinstance(by_row, Tensor) else type(by_row).__name__
        raise PluginError(f"distill.soft: the objective {name!r} returns {what} for {len(student)} rows, not a tensor of a loss per row")
    return by_row


def logits_loss(
    student: Tensor,
    teacher: Tensor,
    config: DistillConfig,
    *,
    temperature: float,
    label: Tensor,
    request: Tensor,
    base: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """What the teacher's logits say: (1 - listwise) * soft, gated where configured, + listwise * ranking; means over rows and requests.

    With weights a request counts as much as its rows do on average; its candidates are ranked as they are. Of several labels it is the mean
    over them, each with its own logit.

    Parameters
    ----------
    student, teacher : float tensors (rows, outputs)
    config : DistillConfig
    temperature : float
        In place of the configured one, which may change during training.
    label : float tensor (rows,) or (rows, labels)
        Read by the gate, and by a term of another package.
    request : int64 tensor (rows,)
        Read by ``listwise`` alone.
    base : float tensor (classes,) or (labels, classes)
        See :func:`label_gate`.
    weight : float tensor (rows,), optional
        See :func:`ctr_kd.objectives.classification.hard_cross_entropy`.

    Returns
    -------
    float tensor ()
    """
    if label.ndim == 2:
        _same_shape(student, teacher)
        of_each = [
            logits_loss(
                student[:, [i]],
                teacher[:, [i]],
                config,
                temperature=temperature,
                label=label[:, i],
                request=request,
                base=base[i],
                weight=weight,
            )
            for i in range(label.shape[1])
        ]
        return torch.stack(of_each).mean()
    value = student.new_zeros(())
    if config.soft != "none" and config.listwise < 1:
        if config.soft == "logit_mse":
            by_row = logit_mse(student, teacher)
        elif config.soft in SOFT_TERMS:
            by_row = (soft_targets if config.soft == "soft_targets" else kl_divergence)(student, teacher, temperature)
        else:
            by_row = term_of_plugin(config.soft, student, teacher, label)
        if config.gate == "label":
            by_row = by_row * label_gate(teacher, label, base)
        value = value + (1 - config.listwise) * weighed(by_row, weight).mean()
    if config.listwise:
        by_request = listwise(student, teacher, request, temperature)
        of_request = None if weight is None else mean_by(torch.unique_consecutive(request, return_inverse=True)[1], weight, len(by_request))
        value = value + config.listwise * weighed(by_request, of_request).mean()
    return value


def mean_by(group: Tensor, values: Tensor, groups: int) -> Tensor:
    """Mean of the values (rows,) of each group (groups,), which are numbered from 0; none may be empty.

    Examples
    --------
    >>> mean_by(torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 5.0]), 2)
    tensor([2., 5.])
    """
    sums = values.new_zeros(groups).index_add(0, group, values)
    return sums / values.new_zeros(groups).index_add(0, group, torch.ones_like(values))


def class_shares(label: Tensor, outputs: int, weight: Tensor | None = None) -> Tensor:
    """Share of each class (classes,) among labelled rows, or of their weights, in the order of :func:`log_softened`; by label of several.

    Examples
    --------
    >>> class_shares(torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0]), 1)
    tensor([0.2500, 0.7500])
    """
    if label.ndim == 2:
        return torch.stack([class_shares(one, 1, weight) for one in label.T])
    known = label >= 0
    labelled = label[known].long()
    column = 1 - labelled if outputs == 1 else labelled
    counts = weighed_counts(column, None if weight is None else weight[known], max(outputs, 2))
    return counts / max(len(labelled) if weight is None else float(counts.sum()), 1)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student and teacher logits differ in shape: {tuple(student.shape)} and {tuple(teacher.shape)}")
