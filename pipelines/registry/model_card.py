"""The model card: what a registered student is, was measured to be worth, and must not be trusted with. Plain functions to Markdown."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctr_kd.export.signature import ClickSignature, RawColumns, TextSignature
from feature_store.tables.plain_text import plain
from pipelines.metrics import ALONE, DataFacts, Metrics, metric_value
from pipelines.registry.lineage import Lineage
from pipelines.registry.promotion_gate import Check, show

_METRICS = ("auc", "gauc", "accuracy", "macro_f1", "log_loss", "normalized_entropy", "calibration_error", "calibration_ratio")
_FEW_USERS, _FEW_ROWS = 1000, 10_000
_WEAK_SLICE = 0.05  # AUC below that of all rows that is worth a sentence


def short_description(name: str, metrics: Metrics, lineage: Lineage) -> str:
    """A paragraph that says what the model is: the version's description in the registry."""
    student = metrics.shipped_model
    kind = _student(metrics).get("kind")
    what = (f"A `{kind}` student" if kind else "A student") + (", trained without a teacher," if metrics.shipped == ALONE else "")
    texts = "accuracy" in student
    does = "classifies texts" if texts else "gives the probability that a candidate item is clicked, from a click history"
    best = "accuracy" if texts else "auc"
    gain = metrics.comparisons.get("student-student_alone", {}).get(best, {})
    gave = f" Distillation gave {gain['difference']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]." if gain.get("low") is not None else ""
    chosen = f" {metrics.shipping.sentence[0].upper()}{metrics.shipping.sentence[1:]}." if metrics.shipping else ""
    where = f" on {metrics.data.test_rows:,} test rows"
    shown = "AUC" if best == "auc" else best
    return (
        f"{what} of `{_plain(name)}` that {does}. {shown} {interval(student.get(best))}{where}.{gave}{chosen} "
        f"Data `{(lineage.data.digest or 'unknown')[:12]}`, code `{(lineage.code_revision or 'unknown')[:12]}`."
    )


def model_card(
    name: str,
    metrics: Metrics,
    lineage: Lineage,
    signature: ClickSignature | TextSignature,
    checks: Sequence[Check],
    uri: str,
) -> str:
    """The card in Markdown.

    Parameters
    ----------
    name : str
        Registered model.
    metrics : Metrics
    lineage : Lineage
        Of the model.
    signature : ClickSignature or TextSignature
        Of the exported student.
    checks : sequence of Check
        What the gate looked at.
    uri : str
        Of the registry, as it may be shown.
    """
    sampling_rate = signature.negative_sampling_rate if isinstance(signature, ClickSignature) else None
    sections = {
        f"# {_plain(name)}": [short_description(name, metrics, lineage)],
        "## Intended use": _use(signature.columns),
        "## Data": list(_data(metrics.data)),
        "## Metrics": list(_metrics(metrics)),
        "## Inputs": _inputs(metrics),
        "## Calibration": list(_calibration(metrics)),
        "## Known limits": [f"- {limit}" for limit in limits(metrics, sampling_rate)],
        "## Gate": markdown_table([("check", "value", "champion", "bound", "passed"), *map(_check_row, checks)]),
        "## Lineage": list(_lineage(lineage)),
        "## How to load": _loading(name, signature.columns, uri),
    }
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines) + "\n"


def _use(columns: RawColumns) -> list[str]:
    lines = [
        f"A row needs {_listed(columns.required)}; it may have {_listed(columns.optional) or 'nothing else'}.",
        "Ids that it does not know, nulls and missing optional columns are scored.",
        f"The answer has {_listed(columns.answer)}.",
    ]
    return [*lines, "", "It is for ranking and for expected rates of the log that it was trained on; not for decisions about people."]


def _data(data: DataFacts) -> Iterator[str]:
    split, unknown = data.split, (None, None)
    windows = {
        "training": (data.train_rows, *((split.train_from, split.train_until) if split else unknown)),
        "validation": (data.validation_rows, *((split.train_until, split.validate_until) if split else unknown)),
        "test": (data.test_rows, *((split.validate_until, split.test_until) if split else unknown)),
    }
    rows = [("window", "from", "until (exclusive, UTC)", "rows")]
    for window, (count, begin, end) in windows.items():
        since = begin.isoformat() if begin else "the beginning" if window == "training" else "-"
        rows.append((window, since, end.isoformat() if end else "-", f"{count:,}"))
    yield from markdown_table(rows)
    sizes = {"users": data.users, "items": data.items, "clicks": data.clicks, "quarantined rows": data.quarantined_rows}
    yield ""
    yield ", ".join(f"{value:,} {what}" for what, value in sizes.items() if value is not None) + "."


def _metrics(metrics: Metrics) -> Iterator[str]:
    from ctr_kd.report.conclusions import transferred

    models = {name: metrics.models[name] for name in ("student", "student_alone", "teacher", "boosted_trees") if name in metrics.models}
    names = [name for name in _METRICS if any(name in model for model in models.values())]
    ships = f" This model is the {'student alone' if metrics.shipped == ALONE else 'student'}."
    yield f"On the test rows, with 95 % bootstrap intervals where there are any; users are resampled, the seed is not.{ships}"
    yield ""
    titles = [f"{name} (privileged)" if models[name].get("privileged") else name for name in models]
    yield from markdown_table([("metric", *titles), *((name, *(interval(model.get(name)) for model in models.values())) for name in names)])
    if more := models.get("teacher", {}).get("privileged"):
        yield ""
        yield f"The teacher read {_listed(more)}, which this model does not: its figures are with inputs that are not there in production."
    for pair, found in metrics.comparisons.items():
        first = next((name for name in ("auc", "accuracy") if found.get(name, {}).get("low") is not None), None)
        if pair.startswith("student-") and first:
            entry = found[first]
            yield ""
            yield f"{pair.replace('-', ' - ')}: {first} {entry['difference']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]."
    reached = transferred({"transfer_ratio_interval": metrics.transfer_ratio_interval})
    if reached:
        yield ""
        yield reached


def _inputs(metrics: Metrics) -> list[str]:
    from ctr_kd.report.importance import sentence

    said = sentence({"importance": metrics.importance})
    return [_plain(said), "Inputs that tell the same stand in for one another."] if said else []


def _calibration(metrics: Metrics) -> Iterator[str]:
    student = metrics.shipped_model
    how = (metrics.run.configuration.get("distill") or {}).get("calibration")
    if how:
        yield f"Fitted on the validation rows (`{how}`) and part of the graph." if how != "none" else "The scores are not calibrated."
    before = student.get("uncalibrated") or {}
    for name in ("calibration_error", "calibration_ratio"):
        if name in student:
            was = f", before calibration {interval(before[name])}" if name in before else ""
            yield f"- {name.replace('_', ' ')}: {interval(student[name])}{was}"


def limits(metrics: Metrics, negative_sampling_rate: float | None) -> list[str]:
    """What the measurements say about where the model is weak, and what nobody measured."""
    data, found = metrics.data, []
    for share, what in ((data.unseen_item_share, "candidates"), (data.unseen_token_share, "tokens")):
        if share:
            found.append(f"{share:.1%} of the test {what} are not in its vocabulary, and it knows them by nothing but their statistics.")
    if data.candidates is not None and data.candidates.sampled:
        found.append("The log holds clicks only: scores are click rates among sampled candidates, no rates of real impressions.")
    if negative_sampling_rate:
        found.append(
            f"Negatives were down-sampled at {negative_sampling_rate:g}; scores are corrected for it, and rates and log loss are of the "
            "full stream."
        )
    if data.weighted:
        found.append("Rows count by the weights of the log, or by the rates at which it was thinned, in training and in all figures.")
    if metrics.labels:
        found.append(f"The gate judges clicks. Of {', '.join(metrics.labels)} the figures are in the report, and no check asks for them.")
    lead = metrics.comparisons.get(f"{metrics.shipped}-boosted_trees", {}).get("auc", {})
    if lead.get("low") is not None and lead["low"] <= 0:
        found.append(
            f"It does not beat boosted trees by an interval: {lead['difference']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}] AUC."
        )
    if data.users is not None and data.users < _FEW_USERS:
        found.append(f"Only {data.users:,} users: intervals are wide, and rare habits are not in it.")
    if data.test_rows < _FEW_ROWS:
        found.append(f"Only {data.test_rows:,} test rows.")
    whole = metric_value(metrics.shipped_model, "auc")[0]
    for name, models in metrics.slices.items():
        part = metric_value(models.get(metrics.shipped, {}), "auc")[0]
        if whole is not None and part is not None and part < whole - _WEAK_SLICE:
            found.append(
                f"AUC is {part:.4f} in {_plain(name)} ({models[metrics.shipped]['rows']:,} rows), against {whole:.4f} on all rows."
            )
    found.append("It is measured offline on what an earlier system showed; what it does to people who see its ranking is not.")
    found.append("It ages: the test window follows its training at once, and later days are worse. `ctr-kd monitor` says how much.")
    return found


def _lineage(lineage: Lineage) -> Iterator[str]:
    rows = [("of", "digest"), ("data", lineage.data.digest or "-"), ("rows", lineage.data.rows or "-")]
    rows.append(("configuration", lineage.configuration.digest or "-"))
    rows += [("teacher", lineage.teacher.digest or "-"), ("student", lineage.student.digest or "-")]
    rows.append(("code revision", lineage.code_revision or "unknown"))
    yield from markdown_table([(what, f"`{digest}`" if what != "of" else digest) for what, digest in rows])
    yield ""
    yield "`data/student/lineage.json` has the fingerprints of every stage, the configuration that each read, and package versions."


def _loading(name: str, columns: RawColumns, uri: str) -> list[str]:
    """Code that runs as it is printed, where the tracking server is reached."""
    return [
        "```python",
        "import mlflow",
        "",
        f"mlflow.set_tracking_uri({json.dumps(uri)})",
        f'model = mlflow.pyfunc.load_model("models:/{_plain(name)}@champion")',
        f"frame = model.input_example  # a pandas DataFrame with {', '.join([*columns.required, '...'])}",
        f"print(model.predict(frame))  # {', '.join(list(columns.answer)[:2])}",
        "```",
        "",
        "`requirements.txt` is all that it needs: no torch, nothing of the project that trained it. Over HTTP:",
        "",
        "```sh",
        f"export MLFLOW_TRACKING_URI={shlex.quote(uri)}",
        f"mlflow models serve -m models:/{_plain(name)}@champion --env-manager local --host 127.0.0.1 --port 5001",
        "```",
    ]


def interval(entry: Any) -> str:
    """A metric as text.

    Examples
    --------
    >>> interval({"value": 0.7, "low": 0.65, "high": 0.75}), interval(0.01), interval({"value": None, "reason": "all labels are 1"})
    ('0.7000 [0.6500, 0.7500]', '0.0100', 'undefined (all labels are 1)')
    """
    value, reason = metric_value({"it": entry}, "it")
    if value is None:
        return f"undefined ({reason})" if entry is not None else "-"
    bounds = f" [{entry['low']:.4f}, {entry['high']:.4f}]" if isinstance(entry, Mapping) and entry.get("low") is not None else ""
    return f"{value:.4f}{bounds}"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; what might be taken for markup in a cell is not.

    Examples
    --------
    >>> markdown_table([("a", "b"), ("1|2", "<b>")])
    ['| a | b |', '| --- | --- |', '| 1\\\\|2 | &lt;b&gt; |']
    """
    lines = ["| " + " | ".join(map(_plain, row)) + " |" for row in rows]
    return [lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]]


def _check_row(check: Check) -> tuple[str, ...]:
    beside = "-" if check.champion is None else show(check.champion)
    return check.name, check.reason or show(check.value), beside, check.bound, "yes" if check.passed else "NO"


def _plain(text: Any) -> str:
    """Text on one line in which names from outside are no markup."""
    shown = plain(re.sub(r"\s+", " ", str(text))).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return shown.replace("|", "\\|").replace("](", "]\\(")


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"`{_plain(name).replace('`', '')}`" for name in names)


def _student(metrics: Metrics) -> Mapping[str, Any]:
    return (metrics.run.configuration.get("distill") or {}).get("student") or {}
