"""What metrics.json says, in the order and the words of a reader: result rows and formatted figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MODEL_TITLES = {
    "teacher": "Teacher",
    "student": "Student",
    "student_alone": "Student alone",
    "boosted_trees": "Boosted trees",
    "linear": "Linear model",
    "text_gcn": "Text GCN (transductive)",
    "popularity": "Popularity",
    "oracle": "Oracle",
}
METRIC_TITLES = {
    "auc": "AUC",
    "auc_unweighted": "AUC, rows alike",
    "gauc": "GAUC",
    "gauc_by_clicks": "GAUC by clicks",
    "gauc_mean": "GAUC, users alike",
    "request_auc": "AUC in request",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
    "normalized_entropy": "Norm. entropy",
    "calibration_error": "Calib. error",
    "calibration_ratio": "Calib. ratio",
}
INSTEAD = "boosted_trees"  # what somebody would use who distils nothing
WORDS = {"auc": "AUC", "accuracy": "accuracy"}  # inside a sentence
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Figure:
    """A number of metrics.json, with its interval where it has one, or the reason why it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, entry: Any, key: str = "value") -> Figure:
        """Read a bare number, or an object with `key`, low, high and reason; anything that is no finite number is undefined.

        >>> Figure.of({"value": 0.7, "low": 0.6, "high": 0.8}).low, Figure.of(0.5).value, Figure.of(None).reason
        (0.6, 0.5, 'not measured')
        """
        if not isinstance(entry, Mapping):
            return cls(_number(entry), reason=None if _number(entry) is not None else "not measured")
        value = _number(entry.get(key))
        reason = entry.get("reason")
        return cls(
            value,
            _number(entry.get("low")),
            _number(entry.get("high")),
            str(reason) if reason else None if value is not None else "undefined",
        )

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None

    def text(self, digits: int = 4) -> str:
        return "–" if self.value is None else f"{self.value:.{digits}f}"

    def interval(self, digits: int = 4) -> str:
        return f"[{self.low:.{digits}f}, {self.high:.{digits}f}]" if self.has_interval else ""

    def signed(self) -> str:
        """As a difference: ``+0.0061 [+0.0048, +0.0075]``."""
        if self.value is None:
            return "–"
        interval = f" [{signed(self.low)}, {signed(self.high)}]" if self.low is not None and self.high is not None else ""
        return signed(self.value) + interval

    def percent(self) -> str:
        """As a share.

        >>> Figure(0.62, 0.414, 1.05).percent(), Figure(-0.2).percent()
        ('62 % [41 %, 105 %]', '−20 %')
        """
        if self.value is None:
            return "–"
        interval = f" [{_percent(self.low)}, {_percent(self.high)}]" if self.low is not None and self.high is not None else ""
        return _percent(self.value) + interval

    @property
    def sign(self) -> int:
        """1 or -1 when the interval lies on one side of zero, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True)
class ResultRow:
    """One model of the result table."""

    name: str
    title: str
    figures: dict[str, Figure]
    rows_per_second: float | None
    rows_per_second_alone: float | None
    parameters: float | None
    bytes: float | None


def result_rows(metrics: Mapping[str, Any]) -> list[ResultRow]:
    """Models in the order of reading: teacher, student, student alone, then the baselines and the oracle."""
    models = metrics.get("models") or {}
    return [
        ResultRow(
            name,
            title_in(metrics, name),
            {metric: Figure.of(models[name][metric]) for metric in METRIC_TITLES if metric in models[name]},
            *(_number(models[name].get(key)) for key in ("rows_per_second", "rows_per_second_alone", "parameters", "bytes")),
        )
        for name in reading_order(models)
    ]


def reading_order(names: Iterable[str]) -> list[str]:
    """Teacher, student, student alone, the baselines, the oracle; then whatever else there is.

    >>> reading_order(["popularity", "student", "teacher/b", "teacher"])
    ['teacher', 'teacher/b', 'student', 'popularity']
    """
    order = list(MODEL_TITLES)
    bases = {name: name.split("/")[0] for name in names}
    return sorted(bases, key=lambda name: (order.index(bases[name]) if bases[name] in order else len(order), name))


def model_title(name: str, library: str | None = None) -> str:
    """A model's name as people say it, and which library made it where there are several.

    >>> model_title("teacher/bert"), model_title("boosted_trees", "lightgbm")
    ('Teacher bert', 'Boosted trees (lightgbm)')
    """
    base, _, part = name.partition("/")
    return f"{MODEL_TITLES.get(base, base)} {part}".strip() + (f" ({library})" if library else "")


def title_in(metrics: Mapping[str, Any], name: str) -> str:
    """A model's title in a table of figures: with its library, and of a teacher that reads what cannot be served that it does.

    >>> title_in({"models": {"teacher": {"privileged": ["dwell"]}}}, "teacher"), title_in({}, "student")
    ('Teacher (privileged)', 'Student')
    """
    model = (metrics.get("models") or {}).get(name) or {}
    return model_title(name, model.get("library")) + (" (privileged)" if model.get("privileged") else "")


def privileged(metrics: Mapping[str, Any]) -> list[str]:
    """Columns that the teacher reads and no student can."""
    return list(((metrics.get("models") or {}).get("teacher") or {}).get("privileged") or [])


def quality(metrics: Mapping[str, Any]) -> str:
    """The metric that the verdict is about: accuracy where there are classes, AUC of clicks.

    >>> quality({"models": {"student": {"auc": 0.9, "accuracy": 0.8}}}), quality({})
    ('accuracy', 'auc')
    """
    return "accuracy" if any("accuracy" in model for model in (metrics.get("models") or {}).values()) else "auc"


def difference(metrics: Mapping[str, Any], pair: str, metric: str | None = None) -> Figure | None:
    """A paired difference, by default in :func:`quality`, or None where the pair was not compared."""
    entry = ((metrics.get("comparisons") or {}).get(pair) or {}).get(metric or quality(metrics))
    return None if entry is None else Figure.of(entry, "difference")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _percent(share: float) -> str:
    text = f"{100 * abs(share):.0f} %"
    return text if share >= 0 or text == "0 %" else MINUS + text


def signed(value: float) -> str:
    """Four decimals with a sign; a rounded zero has none.

    >>> signed(0.00611), signed(-0.0021), signed(0.00001)
    ('+0.0061', '−0.0021', '0.0000')
    """
    text = f"{abs(value):.4f}"
    return text if not float(text) else ("+" if value > 0 else MINUS) + text


def count(value: float | None) -> str:
    """A large number with thousands separators, rounded to what can be meant.

    >>> count(1234567.8), count(None), count(12.34)
    ('1,234,568', '–', '12.3')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def several(number: int, noun: str) -> str:
    """A number of things.

    >>> several(1, "change"), several(3, "change")
    ('1 change', '3 changes')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(value: float | None) -> str:
    """Bytes in the unit that a person would use.

    >>> size(2_500_000), size(812)
    ('2.5 MB', '812 B')
    """
    if value is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """A duration as a person says it.

    >>> seconds(0.42), seconds(75), seconds(4000)
    ('0.4 s', '1 min 15 s', '1 h 7 min')
    """
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 / 60:.0f} min"
