"""Stage monitor: what the scores of each date were worth once its clicks had arrived. Its command runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.metrics.drift import index_by_chance
from feature_store.features.delayed_labels import labels_of
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import digest_of, write_json, write_text
from pipelines.config.scoring import MonitorConfig
from pipelines.errors import BoundBroken, ConfigError
from pipelines.metrics import metric_value
from pipelines.registry.champion import load_chosen_model, model_version
from pipelines.registry.model_package import lineage_of
from pipelines.registry.promotion_gate import Check, at_least, at_most
from pipelines.scoring.dates import seen_in_training
from pipelines.scoring.manifest import ScoresManifest
from pipelines.scoring.partitions import SCORES, is_whole, partition_path, read_partition, scored_dates
from pipelines.tracking.client import TrackingError
from pipelines.workspace.artifacts import ArtifactError, read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.manifest import MANIFEST
from pipelines.workspace.reports import publish_apart
from pipelines.workspace.tables import text_table

FILE, PAGE = "monitor.json", "monitor.html"
FIGURES = ("auc", "log_loss", "calibration_ratio", "calibration_error", "psi")


def horizon(run: RunContext, manifest: ScoresManifest) -> timedelta | None:
    """How long the clicks on a partition's candidates are waited for; None where each is an impression that has its own label."""
    kind = manifest.made_from.settings["score.candidates"] if manifest.made_from is not None else "log"
    return None if kind == "log" else run.config.monitor.horizon


def scores_and_labels(run: RunContext) -> dict[str, str]:
    """The scores and the events in which their labels are, by digest."""
    digests: dict[str, Any] = {}
    events = run.store.partition_digests()
    for day in scored_dates(run.workspace):
        manifest = read_partition(run.workspace, day)
        if manifest is not None:
            last = (day + timedelta(days=1) + (horizon(run, manifest) or timedelta())).isoformat()
            labels = {name: digest for name, digest in events.items() if day.isoformat() <= name <= last}
            digests[day.isoformat()] = [manifest.files[SCORES].sha256, manifest.report.to_json(), labels]
    newest = run.store.known_until()
    cut = run.as_of if run.as_of is not None and newest is not None and run.as_of <= newest else None
    known = {"scores": digest_of(digests), "known_until": str(newest)}
    known |= champion_version(run)
    return known | ({"as_of": cut.isoformat()} if cut else {}) | ({"stale_since": since} if (since := stale_since(run)) else {})


def champion_version(run: RunContext) -> dict[str, str]:
    """The version whose teacher is asked about fresh clicks; empty where none is asked, or there is no champion."""
    if not run.config.monitor.teacher_rows:
        return {}
    try:
        return {"champion": model_version(run)}
    except TrackingError:
        return {}


def stale_since(run: RunContext) -> str | None:
    """Time of the newest event, ISO 8601, where none came for ``monitor.stale_after``; "the beginning" where none ever came."""
    bound = run.config.monitor.stale_after
    if bound is None:  # looking for the newest event may read a day of the log
        return None
    last = run.store.newest_event(run.as_of)
    if last is not None and (run.as_of or run.started) - last <= bound:
        return None
    return "the beginning" if last is None else last.isoformat(timespec="seconds")


def watch_scores(context: StageContext) -> None:
    """Measure every scored date whose labels are known; writes ``monitor.json`` and ``monitor.html``."""
    from ctr_kd.report import render_monitoring

    bounds = context.config.monitor
    dates = [measure(context, day) for day in scored_dates(context.workspace)]
    judge(dates, bounds)
    fresh = fresh_figures(context, dates)
    broken = [one["date"] for one in dates if any(not check["passed"] for check in one["checks"])]
    result: dict[str, Any] = {"name": context.config.name, "bounds": bounds.model_dump(mode="json"), "dates": dates, "broken": broken}
    result["fresh"] = fresh
    result["stale_since"] = stale_since(context.run)
    for one in dates:
        step = date.fromisoformat(one["date"]).toordinal() - date(1970, 1, 1).toordinal()  # days, so that curves have dates for steps
        for name in FIGURES:
            value = metric_value(one, name)[0]
            if value is not None:
                context.metric(f"{'seen' if one.get('seen_in_training') else 'live'}_{name}", value, step)
    write_json(context.output / FILE, result)
    write_text(context.output / PAGE, render_monitoring(result))
    context.record({"dates": len(dates), "measured": sum(one["state"] == "measured" for one in dates), "broken": len(broken)})


def measure(context: StageContext, day: date) -> dict[str, Any]:
    """What is known of a scored date: figures with intervals of its users, or why there are none."""

    manifest = read_partition(context.workspace, day)
    if manifest is None:
        repair = f"`ctr-kd backfill --start {day} --end {day}` scores it again"
        raise DataError(f"{partition_path(context.workspace, day) / MANIFEST}: has no seal, as what an earlier release wrote; {repair}")
    facts = {"date": day.isoformat(), "model_version": manifest.model_version, "scored_rows": manifest.rows, "checks": []}
    seen = manifest.seen_in_training
    if seen is not None and seen.mostly:
        facts |= {"seen_in_training": seen.window, "reason": f"in the {seen.window} window of version {manifest.model_version}: not judged"}
    path = partition_path(context.workspace, day)
    if not is_whole(path, manifest):
        raise DataError(f"{path}: a file of it is damaged; `ctr-kd backfill --start {day} --end {day}` scores it again")
    config, file = context.config, path / SCORES
    labelled = labels_of(context.store, file, config.feature_store, context.as_of, horizon(context.run, manifest))
    if labelled is None or not len(labelled.label):
        reason = "its clicks are still to come" if labelled is None else "nothing of it was shown or clicked as far as is known"
        return facts | {"state": "waiting", "reason": reason}
    rate = config.source.negative_sampling_rate
    rows = EvaluationRows(labelled.label, labelled.user, negative_sampling_rate=rate, row_weight=labelled.weight)
    settings = config.evaluate
    evaluation = evaluate_models(rows, {"live": labelled.score}, replicates=settings.bootstrap, seed=settings.seed, pairs=())
    live = evaluation.models["live"]
    figures = {name: live[name].to_json() for name in FIGURES if name in live}
    drift = manifest.report.scores
    if drift.psi is None or drift.validation_rows is None:
        figures["psi"] = {"value": None, "reason": drift.reason}
    else:
        figures |= {"psi": drift.psi, "psi_by_chance": index_by_chance(drift.validation_rows, drift.rows)}
    context.report(f"{day}: {len(labelled.label):,} labelled rows")
    return facts | {"state": "measured", "rows": len(labelled.label), "clicks": int(labelled.label.sum()), **figures}


def fresh_figures(context: StageContext, dates: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The champion's teacher, student and student alone on the newest measured date, or why they are not there; None where none is asked.

    Puts the check of the transfer ratio beside those of the date.
    """
    version = context.outside.get("champion")
    measured = [one for one in dates if one["state"] == "measured" and not one.get("seen_in_training")]
    if version is None or not measured:
        return None
    from pipelines.training.fresh_clicks import measure_fresh_clicks

    newest, bounds = measured[-1], context.config.monitor
    fresh: dict[str, Any] = {"date": newest["date"], "model_version": version}
    day = date.fromisoformat(newest["date"])
    try:
        lineage = lineage_of(load_chosen_model(context.run, version).loaded.path)
        seen = seen_in_training(lineage.split, day)
        if seen is not None and seen.mostly:
            raise DataError(f"the date is in the {seen.window} window of version {version}")
        fresh |= measure_fresh_clicks(context, lineage, day)
    except (ArtifactError, ConfigError, DataError, TrackingError) as error:  # the dates are measured, and that must not be lost
        fresh["reason"] = str(error)
        context.report(f"warning: the champion's teacher is not measured on {day}: {error}")
    if bounds.transfer_ratio_min is not None and newest["checks"]:  # a date that is judged
        value, reason = metric_value(fresh, "transfer_ratio_interval")
        newest["checks"].append(at_least("transfer_ratio", value, bounds.transfer_ratio_min, fresh.get("reason") or reason).to_json())
    return fresh


def judge(dates: Sequence[dict[str, Any]], bounds: MonitorConfig) -> None:
    """Put the checks of the newest measured dates beside their figures; what the model learned from is no measure of it."""
    measured = [one for one in dates if one["state"] == "measured" and not one.get("seen_in_training")]
    for one in measured[-bounds.judged_dates :]:
        if one["rows"] < bounds.min_rows:
            one["reason"] = f"fewer than {bounds.min_rows} labelled rows: not judged"
        else:
            one["checks"] = [check.to_json() for check in checks(one, bounds)]


def checks(figures: Mapping[str, Any], bounds: MonitorConfig) -> list[Check]:
    """The bounds that are set.

    An undefined figure breaks its bound, as a feed without clicks must alarm; an unknown drift does not, nor one that so few rows show
    where nothing drifts.

    Examples
    --------
    >>> undefined = {"value": None, "reason": "all labels are 0"}
    >>> found = checks({"auc": undefined, "calibration_ratio": 1.1, "calibration_error": 0.2, "psi": undefined}, MonitorConfig())
    >>> [(check.name, check.passed) for check in found]
    [('auc', False), ('calibration_ratio', True), ('calibration_ratio', True), ('calibration_error', False)]
    """
    found = []
    for name in FIGURES:
        value, reason = metric_value(figures, name)
        low, high = getattr(bounds, f"{name}_min", None), getattr(bounds, f"{name}_max", None)
        if name == "psi" and value is None:
            continue
        if name == "psi" and high is not None:
            high = max(high, figures.get("psi_by_chance", 0.0))
        found += [at_least(name, value, low, reason)] if low is not None else []
        found += [at_most(name, value, high, reason)] if high is not None else []
    return found


def publish_and_alarm(context: StageContext) -> None:
    """Publish the page, and end the command where a bound is broken, now and for as long as it is."""
    publish_apart(context, "monitor", (FILE, PAGE))
    result = read_json(context.output / FILE) or {}
    if result["broken"] or result.get("stale_since"):
        from ctr_kd.report.monitoring import headline

        raise BoundBroken(f"{headline(result)} See {context.workspace / 'reports' / 'monitor' / PAGE}")


def monitor_table(run: RunContext) -> str:
    """Every scored date with its figures, and where the page is; or that none has labels yet."""
    place = run.workspace / "reports" / "monitor"
    result = read_json(place / FILE) or {"dates": []}
    dates = result["dates"]
    if not any(one["state"] == "measured" for one in dates):
        waiting = f"; {len(dates)} scored dates wait for their clicks" if dates else "; no date is scored yet"
        return f"no scored date has labels yet{waiting}"
    rows = [("date", "version", "rows", "clicks", *FIGURES, "")]
    for one in dates:
        failed = [check["name"] for check in one["checks"] if not check["passed"]]
        said = f"BROKEN: {', '.join(dict.fromkeys(failed))}" if failed else one.get("reason", "")
        numbers = [f"{one[name]:,}" if name in one else "-" for name in ("rows", "clicks")]
        figures = ["-" if metric_value(one, name)[0] is None else f"{metric_value(one, name)[0]:.4f}" for name in FIGURES]
        rows.append((one["date"], str(one.get("model_version", "-")), *numbers, *figures, said))
    from ctr_kd.report.fresh import fresh_sentences

    return "\n".join([text_table(rows), *fresh_sentences(result), f"report: {place / PAGE}"])


STAGE = Stage(
    "monitor",
    watch_scores,
    keys=("name", "source.negative_sampling_rate", "monitor", "evaluate.bootstrap", "evaluate.seed"),  # the rest is the champion's own
    outside=scores_and_labels,
    conclude=publish_and_alarm,
    after=("ingest",),
)
