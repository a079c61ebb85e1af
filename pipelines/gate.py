"""The gate between challenger and champion: named checks with bounds, decided by pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.config import RegisterConfig

CHAMPION_READABLE = "champion_readable"


class GateRefused(Exception):
    """The challenger did not pass. The message is one line; ``table`` shows every check."""

    def __init__(self, gate: Mapping[str, Any]) -> None:
        failed = [f"{check['name']} ({_why(check)})" for check in gate["checks"] if not check["passed"]]
        champion = gate["champion_before"]
        stays = f"version {champion} stays champion" if champion else "there is still no champion"
        super().__init__(f"the gate refused version {gate.get('challenger', '?')}: {'; '.join(failed)}; {stays}")
        self.gate = gate

    @property
    def table(self) -> str:
        return gate_table(self.gate)


@dataclass(frozen=True)
class Check:
    """One condition.

    Attributes
    ----------
    name : str
    value : float or None
        None where the value is undefined; ``reason`` says why, and the check has then failed.
    bound : str
        As a person reads it: ``>= 0.5``.
    passed : bool
    """

    name: str
    value: float | None
    bound: str
    passed: bool
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "reason" or value is not None}


def at_least(name: str, value: float | None, bound: float, reason: str | None = None) -> Check:
    """A value that must reach a bound; an undefined one never does.

    Examples
    --------
    >>> at_least("auc", 0.71, 0.7).passed, at_least("auc", None, 0.7, "all labels are 1").passed
    (True, False)
    """
    return _check(name, value, f">= {bound:g}", value is not None and value >= bound, reason)


def at_most(name: str, value: float | None, bound: float, reason: str | None = None) -> Check:
    """A value that must not exceed a bound.

    Examples
    --------
    >>> at_most("parity", 3e-7, 1e-4).passed, at_most("parity", float("nan"), 1e-4).passed
    (True, False)
    """
    return _check(name, value, f"<= {bound:g}", value is not None and value <= bound, reason)


def _check(name: str, value: float | None, bound: str, passed: bool, reason: str | None) -> Check:
    if value is None or not math.isfinite(value):
        return Check(name, None, bound, False, reason or "undefined")
    return Check(name, float(value), bound, bool(passed))


def metric(student: Mapping[str, Any], name: str) -> tuple[float | None, str | None]:
    """A metric of metrics.json and, where it is undefined, the reason; it may be a plain number or carry an interval.

    Examples
    --------
    >>> metric({"auc": {"value": 0.7, "low": 0.6, "high": 0.8}}, "auc"), metric({"auc": {"value": None, "reason": "no rows"}}, "auc")
    ((0.7, None), (None, 'no rows'))
    """
    entry = student.get(name)
    if isinstance(entry, Mapping):
        return entry.get("value"), entry.get("reason")
    return entry, None if entry is not None else "not measured"


def absolute_checks(
    student: Mapping[str, Any], parity: float, smoke: str | None, strangers: Sequence[str], bounds: RegisterConfig
) -> list[Check]:
    """Conditions that hold whether there is a champion or not.

    Parameters
    ----------
    student : mapping
        ``models.student`` of metrics.json.
    parity : float
        Largest difference of a probability between the exported and the trained student.
    smoke : str or None
        What went wrong when the saved model was loaded and asked; None where nothing did.
    strangers : sequence of str
        What was found in the export that is not the student's, such as a parameter of the teacher.
    bounds : RegisterConfig
    """
    auc, no_auc = metric(student, "auc")
    accuracy, no_accuracy = metric(student, "accuracy")
    calibration, no_calibration = metric(student, "calibration_error")
    loss, no_loss = metric(student, "log_loss")
    return [
        at_least("auc", auc, bounds.auc_min, no_auc),
        *([at_least("accuracy", accuracy, bounds.accuracy_min, no_accuracy)] if "accuracy" in student else []),
        at_most("calibration_error", calibration, bounds.calibration_error_max, no_calibration),
        _check("log_loss", loss, "finite", True, no_loss),
        at_most("parity", parity, bounds.parity_max),
        Check("smoke_prediction", None if smoke else 1.0, "answers", smoke is None, smoke),
        Check(
            "student_alone",
            float(len(strangers)),
            "<= 0",
            not strangers,
            f"not the student's: {', '.join(strangers)}" if strangers else None,
        ),
    ]


def champion_check(difference: Mapping[str, Any], margin: float, metric: str = "auc") -> Check:
    """The challenger's metric is, with 95 % confidence, at most ``margin`` below the champion's on the same rows.

    Parameters
    ----------
    difference : mapping
        ``difference``, ``low``, ``high`` of challenger minus champion, from a paired bootstrap.
    margin : float
    metric : str
        ``auc`` of clicks, ``accuracy`` of classes.

    Notes
    -----
    A test of non-inferiority: the lower end of the interval counts, so few rows, which leave the question open, do not pass.

    Examples
    --------
    >>> champion_check({"difference": 0.001, "low": -0.002, "high": 0.004}, margin=0.005).passed
    True
    >>> champion_check({"difference": 0.001, "low": -0.02, "high": 0.022}, margin=0.005).passed
    False
    """
    return at_least(f"{metric}_against_champion_low", difference.get("low"), -margin, difference.get("reason"))


def unreadable_champion(reason: str) -> Check:
    """A champion that cannot be asked is a check that failed, not an absent champion.

    Nothing then says that the challenger is as good, and why the files cannot be read is for a person to find out. Who wants the
    challenger all the same promotes it by hand.

    Examples
    --------
    >>> unreadable_champion("its files are lost").passed
    False
    """
    return Check(CHAMPION_READABLE, None, "answers", False, reason)


def decide(checks: Sequence[Check], challenger: str, champion: str | None) -> dict[str, Any]:
    """The entry ``gate`` of metrics.json.

    Examples
    --------
    >>> decide([at_least("auc", 0.4, 0.5)], challenger="2", champion="1")["champion_after"]
    '1'
    """
    passed = all(check.passed for check in checks)
    return {
        "passed": passed,
        "checks": [check.to_json() for check in checks],
        "challenger": challenger,
        "champion_before": champion,
        "champion_after": challenger if passed else champion,
    }


def _why(check: Mapping[str, Any]) -> str:
    return str(check.get("reason") or f"{show(check['value'])}, must be {check['bound']}")


def show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


def gate_table(gate: Mapping[str, Any]) -> str:
    """The gate as plain text, one line per check.

    Examples
    --------
    >>> print(gate_table(decide([at_least("auc", 0.7, 0.5)], challenger="1", champion=None)))
    check  value  bound   passed
    auc    0.7    >= 0.5  yes
    """
    rows = [("check", "value", "bound", "passed")]
    rows += [(check["name"], show(check["value"]), check["bound"], "yes" if check["passed"] else "NO") for check in gate["checks"]]
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under one another, as wide as their widest cells.

    Examples
    --------
    >>> print(columns([("a", "bb"), ("ccc", "d")]))
    a    bb
    ccc  d
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
