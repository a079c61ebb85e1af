"""What fine-tuning destroyed of pretraining: masked-item accuracy before and after, by strategy, beside the quality that it bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctr_kd.report import findings
from ctr_kd.report.charts import move, scale, spread, strip
from ctr_kd.report.findings import Figure
from ctr_kd.report.parts import Cell, Column, Row, Table, figure_cell, numbers

WIDTH = 132  # of each chart in pixels: there are two beside five columns of text


@dataclass(frozen=True)
class Forgetting:
    """The table of fine-tunings, and how many held-out sequences it was measured on, where that is known."""

    sequences: str | None
    table: Table


def strategy_title(settings: Mapping[str, Any]) -> str:
    """A strategy with the settings that shape it: those of the encoder's rate where it has a rate of its own, and whatever else differs.

    Examples
    --------
    >>> strategy_title({"strategy": "low_lr", "rate_ratio": 0.01, "layer_decay": 0.5})
    'low_lr, ratio 0.01, layer decay 0.5'
    >>> strategy_title({"strategy": "low_lr", "rate_ratio": "auto", "encoder_learning_rate": 3e-5})
    'low_lr, encoder at 3e-05'
    >>> strategy_title({"strategy": "freeze", "rate_ratio": 0.01, "different": {"training.epochs": 4}})
    'freeze, training.epochs 4'
    """
    strategy = settings.get("strategy")
    said = [str(strategy)] if strategy else []
    if strategy not in ("freeze", "from_scratch", "next_segment"):
        rate = settings.get("encoder_learning_rate")
        said += [f"encoder at {rate:g}"] if rate else [f"ratio {settings['rate_ratio']}"] if "rate_ratio" in settings else []
        said += [f"layer decay {settings['layer_decay']}"] if settings.get("layer_decay", 1.0) != 1.0 else []
    if strategy == "freeze_then_unfreeze" and "frozen_share" in settings:
        said.append(f"frozen for {settings['frozen_share']}")
    return ", ".join([*said, *(f"{key} {value}" for key, value in (settings.get("different") or {}).items())])


def sentence(metrics: Mapping[str, Any]) -> str | None:
    """How much of what pretraining taught the teacher has lost; None where it was not measured.

    Examples
    --------
    >>> teacher = {"masked_item_accuracy": {"before": 0.1031, "after": 0.1014}}
    >>> settings = {"finetune": {"strategy": "low_lr", "rate_ratio": 0.01}}
    >>> sentence({"models": {"teacher": teacher}, "run": {"configuration": settings}})
    'Fine-tuning (low_lr, ratio 0.01) moved masked-item accuracy from 0.1031 to 0.1014.'
    """
    before, after = _moved(_teacher(metrics))
    if before.value is None or after.value is None:
        return None
    said = strategy_title(((metrics.get("run") or {}).get("configuration") or {}).get("finetune") or {})
    return f"Fine-tuning{f' ({said})' if said else ''} moved masked-item accuracy from {before.text()} to {after.text()}."


def forgetting(metrics: Mapping[str, Any]) -> Forgetting | None:
    """One line per fine-tuning of the same pretrained encoder, least forgetful first; this run's is marked."""
    tunings = _teacher(metrics).get("fine_tunings") or []
    if not tunings:
        return None
    tunings = sorted(tunings, key=lambda tuning: -(_moved(tuning)[1].value or 0.0))
    accuracies = spread([figure for tuning in tunings for figure in _moved(tuning)], zero=True)
    quality = findings.quality(metrics)
    figures = [Figure.of(tuning.get(quality)) for tuning in tunings]
    domain, bought = spread(figures), f"{findings.METRIC_TITLES[quality]} on validation"
    columns = [
        Column("Strategy"),
        Column(scale=scale(accuracies, width=WIDTH)),
        *numbers(["Masked-item accuracy", "Destroyed", "Its loss"]),
    ]
    columns += [Column(scale=scale(domain, width=WIDTH)), *numbers([bought])]
    body = []
    for tuning, figure in zip(tunings, figures, strict=True):
        title, color = strategy_title(tuning), "teacher" if tuning.get("configured") else "popularity"
        (before, after), (loss_before, loss_after) = _moved(tuning), _moved(tuning, "masked_item_loss")
        cells = [
            Cell(title, "this run" if tuning.get("configured") else None, swatch=color),
            Cell(chart=move(before, after, accuracies, color, label=f"Masked-item accuracy, {title}", width=WIDTH)),
            Cell(f"{before.text()} → {after.text()}", number=True),
            Cell(_destroyed(tuning), number=True),
            Cell(f"{loss_before.text(3)} → {loss_after.text(3)}", number=True),
            Cell(chart=strip([(title, color, figure)], domain, label=f"{bought}, {title}", width=WIDTH)),
            figure_cell(figure),
        ]
        body.append(Row(cells))
    count = Figure.of(tunings[0].get("held_out_sequences")).value
    return Forgetting(findings.count(count) if count else None, Table(columns, body))


def _destroyed(tuning: Mapping[str, Any]) -> str:
    """Share of the accuracy that is gone; nothing can be destroyed where nothing was known."""
    before, after = (figure.value for figure in _moved(tuning))
    if not before or after is None or tuning.get("strategy") == "from_scratch":
        return "–"
    return f"{100 * (1 - after / before):.1f}\N{NO-BREAK SPACE}%".replace("-", findings.MINUS)


def _moved(facts: Mapping[str, Any], figure: str = "masked_item_accuracy") -> tuple[Figure, Figure]:
    found = facts.get(figure) or {}
    return Figure.of(found.get("before")), Figure.of(found.get("after"))


def _teacher(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    return (metrics.get("models") or {}).get("teacher") or {}
