"""What a reader should take away, in sentences that claim no more than the intervals allow: the verdict and its remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ctr_kd.report.findings import INSTEAD, WORDS, Figure, ResultRow, difference, privileged, quality, result_rows, several, signed

SEEDS_MOVE = {"auc": 0.002, "accuracy": 0.005}
"""Standard deviation over seeds of student minus student alone: the medians of the proofs in ``benchmarks/results``, which lie between
0.0007 and 0.0060 (AUC) and between 0.0026 and 0.0110 (accuracy), whatever the size of the log."""


@dataclass(frozen=True)
class Verdict:
    """What a reader should take away: the effect of distillation, the sentences that qualify it, and all in one sentence."""

    effect: Literal["gain", "loss", "even", "unknown"]
    headline: str
    remarks: list[str]
    sentence: str


def verdict(metrics: Mapping[str, Any]) -> Verdict:
    """The result in sentences, which claim no more than the intervals allow.

    Examples
    --------
    >>> auc = {"difference": 0.0061, "low": 0.0048, "high": 0.0075}
    >>> verdict({"comparisons": {"student-student_alone": {"auc": auc}}}).headline
    'Distillation gave +0.0061 AUC [+0.0048, +0.0075] over the same student trained alone.'
    """
    word = WORDS[quality(metrics)]
    effect, headline = _effect(difference(metrics, "student-student_alone"), word)
    rows = {row.name: row for row in result_rows(metrics)}
    kept, ships, worth, reached = _kept(metrics, rows), _ships(metrics), _worth(metrics, rows), transferred(metrics)
    covers = metrics.get("interval_covers")  # of a proof alone
    blunt = _blunt(metrics)
    remarks = [
        blunt,
        ships,
        kept,
        reached,
        worth,
        _seeds(metrics),
        coverage(covers) if covers else None,
        *_weak_teacher(metrics),
        _learned_nothing(metrics),
        *_teachers_on_rows(metrics),
        *_baselines(metrics, rows),
        _oracle(rows),
        _advice(metrics),
    ]
    end = ships or kept
    sentence = f"{headline.removesuffix('.')}; {end[0].lower()}{end[1:]}" if end else headline
    sentence = " ".join([sentence, *(said for said in (blunt, reached, worth) if said)])
    return Verdict(effect, headline, [remark for remark in remarks if remark], sentence)


def _effect(gain: Figure | None, word: str) -> tuple[Literal["gain", "loss", "even", "unknown"], str]:
    if gain is None or gain.value is None:
        return "unknown", "What distillation gave is unknown: there is no comparison with the same student trained alone."
    interval = gain.signed().removeprefix(signed(gain.value))
    if not gain.has_interval:
        return "unknown", f"Distillation changed {word} by {signed(gain.value)}, which has no interval to judge it by ({gain.reason})."
    if gain.sign > 0:
        return "gain", f"Distillation gave {signed(gain.value)} {word}{interval} over the same student trained alone."
    if gain.sign < 0:
        return "loss", f"Distillation cost {abs(gain.value):.4f} {word}{interval}: the same student is better trained alone."
    return "even", f"Distillation made no difference that is clearly different from zero: {signed(gain.value)} {word}{interval}."


def _blunt(metrics: Mapping[str, Any]) -> str | None:
    """That accuracy tells nothing, where neither student is above the answer that is always the same, and what log loss tells."""
    student, alone = ((metrics.get("models") or {}).get(name) or {} for name in ("student", "student_alone"))
    support = [one["support"] for one in (student.get("report") or {}).values()]
    lows = [Figure.of(model.get("accuracy")).low for model in (student, alone)]
    if quality(metrics) != "accuracy" or not support:
        return None
    share = max(support) / sum(support)
    if any(low is None or low > share for low in lows):
        return None
    loss = difference(metrics, "student-student_alone", "log_loss")
    moved = f" By log loss, of which less is better, the student is {loss.signed()} from the student alone." if loss else ""
    return f"Accuracy tells little here: {share:.4f} of the rows are of the most frequent class, and neither student is above that.{moved}"


def _ships(metrics: Mapping[str, Any]) -> str | None:
    """Which student ships, and why; None where nobody decided that, as in a proof."""
    said = (metrics.get("shipping") or {}).get("sentence")
    return f"{said[0].upper()}{said[1:]}." if said else None


def _advice(metrics: Mapping[str, Any]) -> str | None:
    """Where to look, and what to try, where distillation did not pay."""
    advice = metrics.get("advice")
    if not advice:
        return None
    change = f"Try {advice['change']}" if advice.get("change") else "Prove it over several seeds"
    return f"Why, perhaps: {advice['cause']}. {change} next."


def _kept(metrics: Mapping[str, Any], rows: Mapping[str, ResultRow]) -> str | None:
    """How much of the teacher the student keeps, and at which cost."""
    name = quality(metrics)
    chance, word = (0.5, "AUC") if name == "auc" else (0.0, WORDS[name])
    teacher, student = (_value(rows, model, name) for model in ("teacher", "student"))
    if teacher is None or student is None:
        return None
    cost = _cost(rows["teacher"], rows["student"])
    more = privileged(metrics)
    if more:
        return (
            f"The teacher read {listed(more)}, which are not there when a student is served: its {word} of {teacher:.4f} is no measure for "
            f"the student's, {student:.4f}{cost}."
        )
    if teacher <= chance:
        return f"The teacher is no better than chance ({word} {teacher:.4f}), so the student could learn nothing from it."
    gap = difference(metrics, "student-teacher")
    if student > teacher:
        if gap and gap.sign > 0:
            return f"The student passes its teacher, {word} {student:.4f} against {teacher:.4f}{cost}."
        return f"The student is level with its teacher, {word} {student:.4f} against {teacher:.4f}{cost}."
    if student <= chance:
        return f"The student is no better than chance ({word} {student:.4f})."
    above = " above chance" if chance else ""
    return f"The student keeps {100 * (student - chance) / (teacher - chance):.1f} % of the teacher's {word}{above}{cost}."


def transferred(metrics: Mapping[str, Any]) -> str | None:
    """How much of the teacher's lead over the student alone reached the student; None where that was not measured, or where a part of that
    lead is from inputs that no student has.

    Examples
    --------
    >>> transferred({"transfer_ratio_interval": {"value": 0.62, "low": 0.41, "high": 0.85}})
    "62 % [41 %, 85 %] of the teacher's lead over the student alone reached the student."
    """
    if metrics.get("transfer_ratio_interval") is None or privileged(metrics):
        return None
    found = Figure.of(metrics["transfer_ratio_interval"])
    if found.value is None:
        return f"How much of the teacher's lead reached the student is undefined: {found.reason}."
    return f"{found.percent()} of the teacher's lead over the student alone reached the student."


def _seeds(metrics: Mapping[str, Any]) -> str | None:
    """In how many seeds the student was better; of a single run that its interval is of one seed, and what others said."""
    entry = ((metrics.get("comparisons") or {}).get("student-student_alone") or {}).get(quality(metrics)) or {}
    by_teacher = gains_by_teacher(entry)
    gains = [gain for gains in by_teacher for gain in gains]
    if not gains:
        return _one_run(metrics, Figure.of(entry, "difference"))
    if len(gains) == 1:
        return None  # what the interval covers says it
    of = several(len(gains), "seed") if len(by_teacher) == 1 else f"{len(gains)} pairs of a teacher and a student seed"
    return f"The distilled student is better in {sum(gain > 0 for gain in gains)} of {of}, by {signed(min(gains))} to {signed(max(gains))}."


def gains_by_teacher(entry: Mapping[str, Any]) -> list[list[float]]:
    """A difference of a proof by teacher and by student seed; a proof of release 0.2 is of one teacher.

    >>> gains_by_teacher({"seeds": [0.1, 0.3], "by_teacher": [[0.1, 0.2], [0.1, 0.4]]}), gains_by_teacher({"seeds": [0.1, 0.3]})
    ([[0.1, 0.2], [0.1, 0.4]], [[0.1, 0.3]])
    """
    return entry.get("by_teacher") or ([entry["seeds"]] if entry.get("seeds") else [])


LEFT_OUT = {"student seeds": "another student seed", "teacher seeds": "another teacher"}


def coverage(covers: Sequence[str]) -> str:
    """What the intervals of a proof cover of users (of texts: rows), student seeds and teacher seeds, and what they leave out.

    >>> coverage(["users", "student seeds", "teacher seeds"])
    'The 95 % intervals cover users, student seeds and teacher seeds.'
    >>> coverage(["rows", "student seeds"])
    'The 95 % intervals cover rows and student seeds; they leave out what another teacher would give.'
    """
    left_out = [what for name, what in LEFT_OUT.items() if name not in covers]
    end = f"; they leave out what {' or '.join(left_out)} would give" if left_out else ""
    return f"The 95 % intervals cover {listed(covers)}{end}."


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _one_run(metrics: Mapping[str, Any], gain: Figure) -> str | None:
    """That an interval covers the choice of test rows alone, and what another seed moves, where a proof says so."""
    if not gain.has_interval:
        return None
    only = "The interval of the gain covers the choice of test rows alone"
    others = metrics.get("other_seeds")
    if not others:
        moves = f"{SEEDS_MOVE[quality(metrics)]:g} {WORDS[quality(metrics)]}"
        return f"{only}. Another seed may move it by {moves}, as on other logs; a proof over several seeds measures it."
    moved, word, by_teacher = Figure.of(others, "difference"), WORDS[quality(metrics)], gains_by_teacher(others)
    gains, students = [gain for gains in by_teacher for gain in gains], several(len(by_teacher[0]), "student seed")
    over = f"{students} under this teacher" if len(by_teacher) == 1 else f"{len(by_teacher)} teachers with {students} each"
    return f"{only}. Over {over} it was {signed(min(gains))} to {signed(max(gains))}, on average {moved.signed()} {word}."


def _cost(teacher: ResultRow, student: ResultRow) -> str:
    """The price of a row, from the rows scored per second; empty where those were not measured."""
    if not teacher.rows_per_second or not student.rows_per_second:
        return ""
    text = f", at {_share(student.rows_per_second / teacher.rows_per_second)} its cost"
    if teacher.rows_per_second_alone:
        text += f" ({_share(student.rows_per_second / teacher.rows_per_second_alone)} it where the teacher scores row by row)"
    return text


def _share(speedup: float) -> str:
    """``1/2,300 of``, or ``2.1 times`` when the student is the slower one."""
    if speedup < 1:
        return f"{1 / speedup:.1f} times"
    return f"1/{speedup:,.0f} of" if speedup >= 9.95 else f"1/{speedup:.1f} of"


def _weak_teacher(metrics: Mapping[str, Any]) -> list[str]:
    lead = difference(metrics, "teacher-student_alone")
    if lead is None or lead.value is None or lead.sign >= 0:
        return []
    more = privileged(metrics)
    also = f", though it read {listed(more)} too" if more else ""
    return [f"The teacher is weaker than the student trained alone{also} ({lead.signed()} {WORDS[quality(metrics)]}): look there first."]


def _learned_nothing(metrics: Mapping[str, Any]) -> str | None:
    """That the encoder, of a BERT that teaches, knows no more than popularity does of what comes next."""
    known, teacher = metrics.get("pretraining") or {}, (metrics.get("models") or {}).get("teacher") or {}
    weights = (teacher.get("weighting") or {}).get("teachers") or {}
    teaches = "bert" in (metrics.get("teachers") or {"bert": None}) and (weights.get("bert") or {"mean": 1.0})["mean"] > 0
    if "gain_low" not in known or known["gain_low"] > 0 or not teaches:
        return None
    losses = [Figure.of(known[name]).text(3) for name in ("masked_item_loss", "popularity_loss")]
    right = [Figure.of(known[name]).text() for name in ("masked_item_accuracy", "popularity_accuracy", "last_click_accuracy")]
    return (
        f"Pretraining learned no more than which items are popular: a loss of {losses[0]} beside {losses[1]}, and {right[0]} of the last "
        f"items right beside {right[1]} (the last one again: {right[2]}). Let it train longer or faster (pretrain.training), or on more "
        "(of clicks: pretrain.clicks)."
    )


def _teachers_on_rows(metrics: Mapping[str, Any]) -> list[str]:
    """Of teachers that say nothing of some rows, or that are better where they teach than chance explains."""
    lines = []
    for name, one in (metrics.get("teachers") or {}).items():
        share, leak = (one.get("coverage") or {}).get("train", 1.0), one.get("leak") or {}
        if share < 1:
            lines.append(f"Of the training rows {share:.1%} were taught by {name}; the others by other teachers, or by their labels alone.")
        if (leak.get("low") or 0) > 0 and not leak.get("foresees"):
            gap = Figure.of(leak, "difference")
            lines.append(
                f"Where it teaches, {name} is better than on validation ({gap.signed()} {WORDS[quality(metrics)]}): it knows those labels."
            )
    return lines


def weighting(metrics: Mapping[str, Any]) -> str | None:
    """How far each teacher was trusted, where their weights were chosen by validation or learned per row.

    Examples
    --------
    >>> spread = {"bert": {"fixed": 0.5, "mean": 0.62}, "boosted_trees": {"fixed": 0.5, "mean": 0.38}}
    >>> figures = {"learned": {"auc": 0.7412}, "fixed": {"auc": 0.7401}}
    >>> weighting({"models": {"teacher": {"weighting": {"teachers": spread, "validation": figures, "used": "learned"}}}})
    'Weights per row: bert 0.62, boosted_trees 0.38 on average; AUC on validation 0.7412, with fixed ones 0.7401. The learned are used.'
    >>> figures = {"chosen": {"accuracy": 0.91}, "fixed": {"accuracy": 0.9}}
    >>> weighting({"models": {"teacher": {"accuracy": 0.9, "weighting": {"teachers": spread, "validation": figures, "used": "chosen"}}}})
    'Weights that validation prefers: bert 0.62, boosted_trees 0.38; accuracy on validation 0.9100, as configured 0.9000.'
    """
    found = ((metrics.get("models") or {}).get("teacher") or {}).get("weighting")
    if not found:
        return None
    shares = ", ".join(f"{name} {one['mean']:.2f}" for name, one in found["teachers"].items())
    metric = quality(metrics)
    known = {name: Figure.of(one.get(metric)).text() for name, one in found["validation"].items()}
    if "chosen" in known:
        word = WORDS[metric]
        return f"Weights that validation prefers: {shares}; {word} on validation {known['chosen']}, as configured {known['fixed']}."
    return (
        f"Weights per row: {shares} on average; AUC on validation {known['learned']}, with fixed ones {known['fixed']}. "
        f"The {found['used']} are used."
    )


def _worth(metrics: Mapping[str, Any], rows: Mapping[str, ResultRow]) -> str | None:
    """Whether what ships is worth its trouble: it is, where it beats what anybody would use instead; None where that was not measured."""
    shipped = metrics.get("shipped", "student")
    lead = difference(metrics, f"{shipped}-{INSTEAD}")
    if lead is None or lead.value is None or not {shipped, INSTEAD} <= set(rows):
        return None
    student, trees, found = rows[shipped].title, rows[INSTEAD].title.lower(), f"{lead.signed()} {WORDS[quality(metrics)]}"
    if not lead.has_interval:
        return f"Whether the {student.lower()} beats {trees} is open: {found}, without an interval ({lead.reason})."
    if lead.sign > 0:
        return f"The {student.lower()} beats {trees} by {found}."
    configured = ((metrics.get("run") or {}).get("configuration") or {}).get("distill") or {}
    if INSTEAD in (configured.get("teachers") or {}):
        other = "give it more width and epochs (distill.student.width, distill.training.epochs)"
    else:
        other = "let them teach it (distill.teachers)"
    verb = "is behind" if lead.sign < 0 else "cannot be told apart from"
    return f"The {student.lower()} {verb} {trees} ({found}), so it is not worth its trouble: use those instead, or {other}."


def _baselines(metrics: Mapping[str, Any], rows: Mapping[str, ResultRow]) -> list[str]:
    remarks = []
    for name in ("linear", "text_gcn", "popularity"):
        lead = difference(metrics, f"student-{name}")
        if lead is None or lead.value is None or lead.sign > 0 or name not in rows:
            continue
        said = "does better than" if lead.sign < 0 else "cannot be told apart from"
        remarks.append(
            f"{rows[name].title} {said} the student: {lead.signed()} {WORDS[quality(metrics)]}, student minus {rows[name].title.lower()}."
        )
    return remarks


def _oracle(rows: Mapping[str, ResultRow]) -> str | None:
    best, student = _value(rows, "oracle", "auc"), _value(rows, "student", "auc")
    if best is None or student is None or best <= 0.5:
        return None
    share = 100 * (student - 0.5) / (best - 0.5)
    return f"The best reachable AUC is {best:.4f}, that of the true click probabilities; the student has {share:.1f} % of it above chance."


def _value(rows: Mapping[str, ResultRow], model: str, metric: str) -> float | None:
    return rows[model].figures[metric].value if model in rows and metric in rows[model].figures else None
