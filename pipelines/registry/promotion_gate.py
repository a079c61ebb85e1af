"""The gate between challenger and champion: named checks with bounds, decided by pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ctr_kd.evaluation.tables import MetricDifference, MetricValue
from feature_store.tables.json_models import JsonModel
from pipelines.config.register import RegisterConfig
from pipelines.errors import GateRefused
from pipelines.metrics import STUDENT, Shipping
from pipelines.registry.latency import Latency
from pipelines.workspace.tables import text_table

CHAMPION_READABLE = "champion_readable"
Difference = MetricDifference | MetricValue  # the second where the metric itself is undefined: its reason is that of the difference
_NOT_MEASURED = MetricValue(reason="not measured")


class Check(JsonModel):
    """One condition.

    Attributes
    ----------
    name : str
    value : float or None
        None where the value is undefined; ``reason`` says why. The check has then failed, unless there was nothing to judge.
    bound : str
        As a person reads it: ``>= 0.5``.
    passed : bool
    champion : float or None
        The champion's value on the same rows, where it has one.
    measured : str or None
        How the value was measured, where it is not the rows alone that decide it.
    """

    name: str
    value: float | None
    bound: str
    passed: bool
    reason: str | None = None
    champion: float | None = None
    measured: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key not in ("reason", "champion", "measured") or value is not None}

    def beside(self, champion: ModelFigures) -> Self:
        """The same check, with what the champion has there."""
        return self.model_copy(update={"champion": champion.figure(self.name)})


class Gate(JsonModel):
    """What the gate decided: the entry ``gate`` of metrics.json.

    Attributes
    ----------
    passed : bool
    checks : list of Check
    challenger : str
        Version that was judged.
    champion_before, champion_after : str or None
        Version that was champion, and that is champion since; None where there is none.
    """

    passed: bool
    checks: list[Check]
    challenger: str = "?"
    champion_before: str | None
    champion_after: str | None

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


@dataclass(frozen=True)
class ModelFigures:
    """What the gate knows of a model, challenger or champion.

    Attributes
    ----------
    metrics : mapping of str to MetricValue
        On the rows that both have scored.
    unseen_share : float or None
        Of these rows' candidate items, or tokens, those that it does not know; None where there are none.
    bytes : int
        Size of the exported student.
    latency : Latency
        How long requests take.
    """

    metrics: Mapping[str, MetricValue]
    unseen_share: float | None
    bytes: int
    latency: Latency

    @property
    def latency_p99_ms(self) -> float:
        """What is judged of the latency: processor time, since wall time is also that of the other programs on the machine."""
        return self.latency.processor_ms

    def figure(self, name: str) -> float | None:
        """A figure by the name of its check, None where it has no such or an undefined one."""
        return getattr(self, name) if hasattr(self, name) else self.metric(name).value

    def metric(self, name: str) -> MetricValue:
        """A metric; one that was not measured is undefined."""
        return self.metrics.get(name, _NOT_MEASURED)


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
        return Check(name=name, value=None, bound=bound, passed=False, reason=reason or "undefined")
    return Check(name=name, value=float(value), bound=bound, passed=bool(passed))


def model_checks(challenger: ModelFigures, bounds: RegisterConfig, champion: ModelFigures | None = None) -> list[Check]:
    """Bounds on the challenger itself, with what the champion has there beside them.

    Examples
    --------
    >>> metrics = {"auc": 0.7, "calibration_error": 0.01, "calibration_ratio": 1.0, "log_loss": 0.4}
    >>> metrics = {name: MetricValue(value) for name, value in metrics.items()}
    >>> found = model_checks(ModelFigures(metrics, 0.1, 1000, Latency(2.0, 2.1, 5, 40)), RegisterConfig(auc_min=0.8))
    >>> [check.name for check in found if not check.passed]
    ['auc']
    """
    auc, error, loss = map(challenger.metric, ("auc", "calibration_error", "log_loss"))
    accuracy, ratio = map(challenger.metrics.get, ("accuracy", "calibration_ratio"))
    checks = [at_least("auc", auc.value, bounds.auc_min, auc.reason)]
    if accuracy is not None:
        checks.append(at_least("accuracy", accuracy.value, bounds.accuracy_min, accuracy.reason))
    checks.append(at_most("calibration_error", error.value, bounds.calibration_error_max, error.reason))
    if ratio is not None and bounds.calibration_ratio_min is not None:
        checks.append(at_least("calibration_ratio", ratio.value, bounds.calibration_ratio_min, ratio.reason))
    if ratio is not None and bounds.calibration_ratio_max is not None:
        checks.append(at_most("calibration_ratio", ratio.value, bounds.calibration_ratio_max, ratio.reason))
    checks += [
        _check("log_loss", loss.value, "finite", True, loss.reason)
        if bounds.log_loss_max is None
        else at_most("log_loss", loss.value, bounds.log_loss_max, loss.reason),
        at_most("unseen_share", challenger.unseen_share, bounds.unseen_share_max, "the rows hold no ids"),
        at_most("bytes", float(challenger.bytes), bounds.bytes_max),
        at_most("latency_p99_ms", challenger.latency_p99_ms, bounds.latency_p99_ms_max).model_copy(
            update={"measured": str(challenger.latency)}
        ),
    ]
    return [check.beside(champion) for check in checks] if champion else checks


def distillation_checks(shipping: Shipping | None, bounds: RegisterConfig) -> list[Check]:
    """What ships is no worse than the same student trained alone: on validation the gain is not below the bound beyond chance.

    Where the interval is unknown nothing is asked, and nothing where the bound is switched off.

    Parameters
    ----------
    shipping : Shipping or None
        None in a report of release 0.1.
    bounds : RegisterConfig

    Examples
    --------
    >>> found = {"difference": -0.002, "low": -0.003, "high": -0.001}
    >>> forced = Shipping(ship="student", shipped="student", metric="auc", validation=found, sentence="")
    >>> [(check.name, check.value, check.passed) for check in distillation_checks(forced, RegisterConfig())]
    [('distillation_gain', -0.001, False)]
    >>> distillation_checks(forced.model_copy(update={"shipped": "student_alone"}), RegisterConfig())[0].passed
    True
    """
    if shipping is None or shipping.gain_high is None or bounds.distillation_gain_min is None:
        return []
    found = shipping.validation
    measured = "the student alone itself"
    if shipping.shipped == STUDENT:
        interval = f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
        measured = f"upper end of student minus student alone on validation, {interval}"
    check = at_least("distillation_gain", shipping.gain_high, bounds.distillation_gain_min)
    return [check.model_copy(update={"measured": measured})]


def export_checks(parity: float, smoke: str | None, foreign: Sequence[str], bounds: RegisterConfig) -> list[Check]:
    """Bounds on what was exported.

    Parameters
    ----------
    parity : float
        Largest difference of a probability between the exported and the trained student.
    smoke : str or None
        What went wrong when the saved model was loaded and asked; None where nothing did.
    foreign : sequence of str
        What was found in the export that is not the student's, such as a parameter of the teacher.
    bounds : RegisterConfig
    """
    return [
        at_most("parity", parity, bounds.parity_max),
        Check(name="smoke_prediction", value=None if smoke else 1.0, bound="answers", passed=smoke is None, reason=smoke),
        Check(
            name="foreign_parameters",
            value=float(len(foreign)),
            bound="<= 0",
            passed=not foreign,
            reason=f"not the student's: {', '.join(foreign)}" if foreign else None,
        ),
    ]


def champion_checks(differences: Mapping[str, Difference], champion: Mapping[str, MetricValue], bounds: RegisterConfig) -> list[Check]:
    """The challenger is, with 95 % confidence, hardly worse than the champion on the same rows.

    Parameters
    ----------
    differences : mapping of str to Difference
        Challenger minus champion by metric, from a paired bootstrap.
    champion : mapping of str to MetricValue
        What the champion has there.
    bounds : RegisterConfig

    Notes
    -----
    Tests of non-inferiority: the far end of the interval counts, so few rows, which leave the question open, do not pass.

    Examples
    --------
    >>> champion = {"auc": MetricValue(0.7), "log_loss": MetricValue(0.5)}
    >>> found = {"auc": MetricDifference(0.0, -0.02, 0.022), "log_loss": MetricDifference(0.0, 0.0, 0.01)}
    >>> [(check.name, check.bound, check.passed) for check in champion_checks(found, champion, RegisterConfig())]
    [('auc_against_champion_low', '>= -0.005', False), ('log_loss_against_champion_high', '<= 0.05', True)]
    """
    rank = "accuracy" if "accuracy" in champion else "auc"
    ranked, loss = differences.get(rank, _NOT_MEASURED), differences.get("log_loss", _NOT_MEASURED)
    room = bounds.log_loss_margin * (champion.get("log_loss", _NOT_MEASURED).value or 0.0)
    return [
        at_least(f"{rank}_against_champion_low", ranked.low, -bounds.champion_margin, ranked.reason),
        at_most("log_loss_against_champion_high", loss.high, room, loss.reason),
    ]


def window_checks(challenger: str | None, champion: str | None, bounds: RegisterConfig) -> list[Check]:
    """What asks for newer data, or as new ones: the rows of an old window cannot say which of two models is better tomorrow.

    Parameters
    ----------
    challenger, champion : str or None
        Where the test window of each ended, ISO 8601; None where that is not known, as for texts, and nothing is asked.
    bounds : RegisterConfig

    Examples
    --------
    >>> window_checks("2024-05-01T00:00:00+00:00", "2024-05-02T12:00:00+00:00", RegisterConfig())
    [Check(name='window_hours_back', value=36.0, bound='<= 0', passed=False, reason=None, champion=None, measured=None)]
    >>> window_checks("2024-05-03T00:00:00+00:00", "2024-05-02T12:00:00+00:00", RegisterConfig())[0].value
    0.0
    """
    if challenger is None or champion is None or bounds.window_hours_back_max is None:
        return []
    back = (datetime.fromisoformat(champion) - datetime.fromisoformat(challenger)) / timedelta(hours=1)
    return [at_most("window_hours_back", max(0.0, back), bounds.window_hours_back_max)]


def unreadable_champion(reason: str) -> Check:
    """A champion that cannot be asked is a check that failed, not an absent champion.

    Nothing then says that the challenger is as good, and why the files cannot be read is for a person to find out. Who wants the
    challenger all the same promotes it by hand.

    Examples
    --------
    >>> unreadable_champion("its files are lost").passed
    False
    """
    return Check(name=CHAMPION_READABLE, value=None, bound="answers", passed=False, reason=reason)


def decide(checks: Sequence[Check], challenger: str, champion: str | None) -> Gate:
    """What the gate says to the checks of a challenger.

    Examples
    --------
    >>> decide([at_least("auc", 0.4, 0.5)], challenger="2", champion="1").champion_after
    '1'
    """
    passed = all(check.passed for check in checks)
    after = challenger if passed else champion
    return Gate(passed=passed, checks=list(checks), challenger=challenger, champion_before=champion, champion_after=after)


def refusal(gate: Gate) -> GateRefused:
    """What a run ends with whose challenger did not pass."""
    stays = f"version {gate.champion_before} stays champion" if gate.champion_before else "there is still no champion"
    names = tuple(check.name for check in gate.failed)
    return GateRefused(f"the gate refused version {gate.challenger}: {_reasons(gate)}; {stays}", gate_table(gate), names)


def decision(gate: Gate) -> str:
    """What the gate decided, in one line.

    Examples
    --------
    >>> decision(decide([at_least("auc", 0.7, 0.5)], challenger="2", champion="1"))
    'passed: auc 0.7'
    >>> decision(decide([at_least("auc", 0.4, 0.5)], challenger="2", champion="1"))
    'refused: auc (0.4, must be >= 0.5)'
    """
    if not gate.passed:
        return f"refused: {_reasons(gate)}"
    compared = [check for check in gate.checks if "_against_champion_" in check.name] or gate.checks[:1]
    return "passed: " + ", ".join(f"{check.name} {show(check.value)}" for check in compared)


def _reasons(gate: Gate) -> str:
    return "; ".join(f"{check.name} ({_why(check)})" for check in gate.failed)


def _why(check: Check) -> str:
    if check.reason:
        return check.reason
    return f"{show(check.value)}, must be {check.bound}" + (f"; {check.measured}" if check.measured else "")


def show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


def gate_table(gate: Gate) -> str:
    """The gate as plain text, one line per check.

    Examples
    --------
    >>> print(gate_table(decide([at_least("auc", 0.7, 0.5)], challenger="1", champion=None)))
    check  value  bound   passed
    auc    0.7    >= 0.5  yes
    """
    compared = any(check.champion is not None for check in gate.checks)
    rows = [("check", "value", *(["champion"] if compared else []), "bound", "passed")]
    for check in gate.checks:
        beside = ["-" if check.champion is None else show(check.champion)] if compared else []
        rows.append((check.name, show(check.value), *beside, check.bound, "yes" if check.passed else "NO"))
    return text_table(rows)
