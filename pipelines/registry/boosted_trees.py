"""The gate on what somebody would use instead: a student that boosted trees match is not worth its trouble."""

from __future__ import annotations

from pipelines.config.register import RegisterConfig
from pipelines.metrics import Metrics
from pipelines.registry.promotion_gate import Check, at_least

NAME = "boosted_trees_gain"


def boosted_trees_checks(metrics: Metrics, bounds: RegisterConfig) -> list[Check]:
    """What ships beats boosted trees on the test rows: the lower end of the interval counts, so few rows, which leave the question open,
    do not reach a bound.

    Without a bound the figure stands in the report all the same, and refuses nothing. There is none where no boosted trees were measured.

    Parameters
    ----------
    metrics : Metrics
        Of stage ``evaluate``.
    bounds : RegisterConfig
    """
    found = metrics.comparisons.get(f"{metrics.shipped}-boosted_trees", {}).get("auc")
    if found is None:
        return []
    low, reason = found.get("low"), found.get("reason")
    if bounds.boosted_trees_gain_min is None:
        check = Check(name=NAME, value=low, bound="any", passed=True, reason=reason)
    else:
        check = at_least(NAME, low, bounds.boosted_trees_gain_min, reason)
    if low is None:
        return [check]
    library = metrics.models["boosted_trees"].get("library")
    trees = f"boosted trees ({library})" if library else "boosted trees"
    interval = f"{found['difference']:+.4f} [{low:+.4f}, {found['high']:+.4f}]"
    return [check.model_copy(update={"measured": f"lower end of what ships minus {trees} on the test rows, {interval}"})]
