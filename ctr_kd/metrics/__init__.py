"""Metrics of a click model or a classifier.

Names follow scikit-learn: ``_score`` is better when higher; ``_loss``, ``_error`` and ``_entropy`` are better when lower.
A metric that has no value on the given rows raises `UndefinedMetric`; nothing here returns NaN or a polite 0.5.
Results do not depend on the order of the rows: tied scores are always treated as one.
"""

from ctr_kd.metrics.checks import UndefinedMetric
from ctr_kd.metrics.classification import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    macro_f1_score,
    one_vs_rest_auc_score,
    report_averages,
)
from ctr_kd.metrics.probability import (
    ReliabilityBins,
    calibration_error,
    calibration_ratio,
    log_loss,
    normalized_entropy,
    of_full_stream,
    reliability_bins,
)
from ctr_kd.metrics.ranking import GroupedAuc, auc_score, gauc_score, grouped_auc, roc_points

__all__ = [
    "GroupedAuc",
    "ReliabilityBins",
    "UndefinedMetric",
    "accuracy_score",
    "auc_score",
    "calibration_error",
    "calibration_ratio",
    "classification_report",
    "confusion_matrix",
    "gauc_score",
    "grouped_auc",
    "log_loss",
    "macro_f1_score",
    "normalized_entropy",
    "of_full_stream",
    "one_vs_rest_auc_score",
    "reliability_bins",
    "report_averages",
    "roc_points",
]
