"""How much of the teacher's lead over the student alone reached the student: the transfer ratio, with its interval."""

from __future__ import annotations

import numpy as np

from ctr_kd.evaluation.several_seeds import Seeded
from ctr_kd.evaluation.tables import MetricValue
from ctr_kd.metrics.bootstrap import over_seeds, paired_difference, percentile_interval
from ctr_kd.metrics.checks import UndefinedMetric


def transfer_ratio(teacher: Seeded, student: Seeded, alone: Seeded, seed: int) -> MetricValue:
    """(student - student alone) / (teacher - student alone), of the means over all seeds.

    Parameters
    ----------
    teacher, student, alone : Seeded
        One metric of the three models, of one bootstrap.
    seed : int
        Of the resampling of seeds.

    Returns
    -------
    MetricValue
        Undefined, with the reason, where the teacher's lead is not above chance: a share of what may be nothing would be any number.

    Notes
    -----
    Numerator and denominator are taken on the same resamples of users and seeds. A resample in which the teacher has no lead has no ratio
    and is left out; where the lead is above chance, that is at most one in forty.

    Examples
    --------
    >>> def model(auc: float) -> Seeded:
    ...     return Seeded(np.full((1, 1), auc), np.full((1, 1, 20), auc))
    >>> found = transfer_ratio(model(0.78), model(0.77), model(0.74), seed=0)
    >>> round(found.value, 6), round(found.low, 6)
    (0.75, 0.75)
    >>> transfer_ratio(model(0.74), model(0.77), model(0.74), seed=0).reason
    "the teacher's lead over the student alone, +0.0000 [+0.0000, +0.0000], is not above chance"
    """
    lead, gain = teacher.value - alone.value, student.value - alone.value
    leads, gains = (over_seeds(one.replicates - alone.replicates, seed) for one in (teacher, student))
    try:
        found = paired_difference(float(lead.mean()), 0.0, leads, np.zeros_like(leads))
        if found.low <= 0:
            shown = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            return MetricValue(reason=f"the teacher's lead over the student alone, {shown}, is not above chance")
        ratios = np.divide(gains, leads, out=np.full_like(gains, np.nan), where=leads > 0)
        interval = percentile_interval(float(gain.mean() / lead.mean()), ratios)
    except UndefinedMetric as undefined:
        return MetricValue(reason=undefined.reason)
    return MetricValue(interval.value, interval.low, interval.high)
