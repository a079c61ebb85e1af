"""Which of the two students ships: the distilled one, or the same one trained alone. The validation rows decide, never the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.several_seeds import measure_seeds, seed_differences
from ctr_kd.evaluation.tables import MetricDifference, MetricValue
from ctr_kd.evaluation.transfer_ratio import transfer_ratio as ratio_with_interval
from ctr_kd.metrics import UndefinedMetric
from ctr_kd.metrics.bootstrap import Bootstrap
from pipelines.config.evaluate import EvaluateConfig
from pipelines.config.run import RunConfig
from pipelines.metrics import ALONE, STUDENT, Advice, Shipping, metric_value
from pipelines.tasks.logits import stored_probabilities

_FEW_STEPS = 1000  # of pretraining
_FEW_EPOCHS = 6  # of a student that learns what its teacher says
_TAUGHT_ALPHA = 0.2  # weight of the labels that leaves most to the teacher


def choose_student(config: RunConfig, distill: Path, validation: EvaluationRows) -> Shipping:
    """Decide which student ships.

    Parameters
    ----------
    config : RunConfig
        ``distill.ship``, and the bootstrap of ``evaluate``.
    distill : Path
        Artifact of stage ``distill``.
    validation : EvaluationRows

    Notes
    -----
    With ``better`` it is the distilled one, unless the student alone is better beyond chance. Both cost the same to serve, and over several
    seeds distillation is the better bet: a single run that cannot tell the two apart is no reason to give it up.
    """
    ship = config.distill.ship
    metric, found = validation_difference(distill, validation, config.evaluate)
    worse = isinstance(found, MetricDifference) and found.high is not None and found.high < 0
    alone = worse if ship == "better" else ship == "alone"
    shipped = ALONE if alone else STUDENT
    return Shipping(ship=ship, shipped=shipped, metric=metric, validation=found.to_json(), sentence=_sentence(shipped, ship, metric, found))


def validation_difference(
    distill: Path, validation: EvaluationRows, settings: EvaluateConfig
) -> tuple[str, MetricDifference | MetricValue]:
    """The metric that decides, and student minus student alone in it; without an interval it is undefined, and says why."""
    metric = validation.metric
    bootstrap = Bootstrap(validation.user, len(validation.label), replicates=settings.bootstrap, seed=settings.seed)
    obstacle = bootstrap.obstacle()
    if obstacle:
        return metric, MetricValue(reason=obstacle)
    try:
        student, alone = (
            measure_seeds(
                validation.label,
                [[stored_probabilities(distill / f"predictions_{name}_validation.parquet")]],
                bootstrap,
                validation.row_weight,
                validation.row_weight,
            )
            for name in (STUDENT, ALONE)
        )
        found = seed_differences(student, alone, settings.seed)[metric]
    except UndefinedMetric as undefined:
        return metric, MetricValue(reason=undefined.reason)
    return metric, MetricDifference(found.difference, found.low, found.high, found.p_value)


def _sentence(shipped: str, ship: str, metric: str, found: MetricDifference | MetricValue) -> str:
    from ctr_kd.report import WORDS, Figure

    who = "the student ships" if shipped == STUDENT else "the student alone ships"
    chosen = "" if ship == "better" else f", since distill.ship is {ship}"
    if isinstance(found, MetricValue):
        return f"{who}{chosen}: validation cannot tell the two apart ({found.reason})"
    figure = Figure(found.difference, found.low, found.high)
    judged = {1: "a gain beyond chance", 0: "no more than chance makes", -1: "a loss beyond chance"}[figure.sign]
    return f"{who}{chosen}: student minus student alone is {figure.signed()} {WORDS[metric]} on validation, {judged}"


def transfer_ratio(models: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    """Share of the teacher's lead over the student alone that the student has taken over, on the test rows.

    None where the teacher has no lead to take over.

    Examples
    --------
    >>> models = {"teacher": {"auc": 0.75}, "student": {"auc": 0.74}, "student_alone": {"auc": 0.73}}
    >>> round(transfer_ratio(models, "auc"), 6), transfer_ratio(models | {"teacher": {"auc": 0.72}}, "auc")
    (0.5, None)
    """
    teacher, student, alone = (metric_value(models[name], metric)[0] for name in ("teacher", STUDENT, ALONE))
    if teacher is None or student is None or alone is None or teacher <= alone:
        return None
    return (student - alone) / (teacher - alone)


def transfer_interval(rows: EvaluationRows, scores: Mapping[str, NDArray], metric: str, settings: EvaluateConfig) -> MetricValue:
    """The same share with its interval; undefined, with the reason, where the teacher's lead is not above chance.

    Parameters
    ----------
    rows : EvaluationRows
    scores : mapping of str to float array (rows,) or (rows, classes)
        Probabilities of ``teacher``, ``student`` and ``student_alone``.
    metric : str
    settings : EvaluateConfig
        The bootstrap.
    """
    bootstrap = Bootstrap(rows.user, len(rows.label), replicates=settings.bootstrap, seed=settings.seed)
    obstacle = bootstrap.obstacle()
    if obstacle:
        return MetricValue(reason=obstacle)
    try:
        teacher, student, alone = (
            measure_seeds(rows.label, [[scores[name]]], bootstrap, rows.weight, rows.row_weight)[metric]
            for name in ("teacher", STUDENT, ALONE)
        )
    except UndefinedMetric as undefined:
        return MetricValue(reason=undefined.reason)
    return ratio_with_interval(teacher, student, alone, settings.seed)


def advise(
    config: RunConfig, shipping: Shipping, tables: Mapping[str, Mapping[str, Any]], *, pretraining_steps: int | None, validation_clicks: int
) -> Advice | None:
    """Why distillation did not pay, as far as the figures say, and what to try next; None where it did, or is not asked for.

    Parameters
    ----------
    config : RunConfig
    shipping : Shipping
    tables : mapping
        ``models`` and ``comparisons`` of metrics.json.
    pretraining_steps : int, optional
        None for a released BERT.
    validation_clicks : int
        Of texts: their number.
    """
    from ctr_kd.report import WORDS, Figure

    metric = shipping.metric
    gain, lead = (Figure.of(tables["comparisons"][f"{one}-{ALONE}"].get(metric), "difference") for one in (STUDENT, "teacher"))
    if config.distill.ship == "alone" or (gain.sign > 0 and shipping.shipped == STUDENT):
        return None
    pretrained = "the BERT is a released one" if pretraining_steps is None else f"pretraining took {pretraining_steps:,} steps"
    held = f"validation holds {validation_clicks:,} {'clicks' if config.task == 'clicks' else 'texts'}"
    who = "teacher (privileged)" if tables["models"].get("teacher", {}).get("privileged") else "teacher"
    cause = f"{who} minus student alone is {lead.signed()} {WORDS[metric]}; {pretrained}; {held}"
    change = _better_use(config) if lead.sign > 0 else _better_teacher(config, tables["models"], metric, pretraining_steps)
    return Advice(cause=cause, change=change)


def _better_use(config: RunConfig) -> str | None:
    """A change by which a student may take over more of a teacher that is better than it."""
    distill = config.distill
    if (
        distill.training.patience is None and distill.training.epochs < _FEW_EPOCHS
    ):  # labels are learned by heart in two; what a teacher says takes longer
        return f"distill.training.epochs={_FEW_EPOCHS}"
    if distill.preset is None and distill.alpha > _TAUGHT_ALPHA:
        return f"distill.alpha={_TAUGHT_ALPHA}"
    return None


def _better_teacher(config: RunConfig, models: Mapping[str, Mapping[str, Any]], metric: str, steps: int | None) -> str | None:
    """A change by which the teacher may become better than the student alone."""
    teachers, epochs = config.distill.teacher_weights, config.pretrain.training.epochs
    if "bert" in teachers and steps is not None and steps < _FEW_STEPS and config.pretrain.training.patience is None:
        times = min(20, max(3, round(_FEW_STEPS / max(steps, 1))))
        return f"pretrain.training.epochs={times * epochs:g}"
    alone = metric_value(models[ALONE], metric)[0]
    for name in ("boosted_trees", "linear"):
        other = metric_value(models.get(name, {}), metric)[0]
        if name not in teachers and other is not None and alone is not None and other > alone:
            weights = {one: weight / 2 for one, weight in teachers.items()} | {name: 0.5}
            return "distill.teachers={" + ", ".join(f"{one}: {weight:g}" for one, weight in weights.items()) + "}"
    if "bert" not in teachers:
        return None
    if steps is None and config.finetune.training.patience is None:
        return f"finetune.training.epochs={2 * config.finetune.training.epochs:g}"
    return f"pretrain.encoder.width={2 * config.pretrain.encoder.width}"
