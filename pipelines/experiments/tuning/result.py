"""What a search found: the figures of `tune.json`, and the head of the tuned file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipelines.config.run import scalar
from pipelines.experiments.tuning.clock import Clock, time_text
from pipelines.experiments.tuning.finals import Finalist, Judged, winner_of
from pipelines.experiments.tuning.search import Asked
from pipelines.experiments.tuning.space import Space, configured_value
from pipelines.experiments.tuning.study import Study, Tried, best_first
from pipelines.workspace.context import RunContext
from pipelines.workspace.tables import text_table


def result_of(
    run: RunContext, study: Study, space: Space, clock: Clock, finalists: Sequence[Finalist], judged: Sequence[Judged], asked: Asked
) -> dict[str, Any]:
    """All that `tune.json` has beside its run."""
    from ctr_kd.report.tuning import verdict

    tried, winner = study.tried(), winner_of(judged)
    configured = {key: configured_value(run.config, key) for key in space}
    trained = next(one.trained for one in best_first(tried) if one.trained is not None)
    changes = {} if winner is None else winner.finalist.tried.changes
    result: dict[str, Any] = {
        "study": study.name,
        "budget": clock.budget,
        "seconds": round(study.seconds, 1),
        "metric": trained.metric,
        "sampler": run.config.tune.sampler,
        "pruner": run.config.tune.pruner,
        "bounds": {name: getattr(run.config.tune, name) for name in ("rows_per_second_min", "bytes_max")},
        "space": {key: {**one.model_dump(mode="json", exclude_none=True), "configured": configured[key]} for key, one in space.items()},
        "trials": [_of_trial(one) for one in tried],
        "importance": study.importance(),
        "finalists": [_of_finalist(one) for one in judged],
        "out": {f"trial {one.tried.number}" if one.tried.changes else "as configured": one.failed for one in finalists if one.failed},
        "winner": None if winner is None else winner.finalist.tried.number,
        "changed": {key: {"from": configured[key], "to": value} for key, value in changes.items() if value != configured[key]},
        "configuration_file": str(asked.conf),
        "file": str(asked.output),
    }
    return {**result, "verdict": verdict(result)}


def _of_trial(one: Tried) -> dict[str, Any]:
    trained = one.trained
    return {
        "number": one.number,
        "configured": not one.changes,
        "state": one.state,
        "value": None if trained is None else trained.value,
        "objective": one.objective,
        "seconds": one.seconds,
        "changes": one.changes,
        "reason": one.reason,
        "made": [] if trained is None else trained.made,
        "bytes": None if trained is None else trained.bytes,
        "parameters": None if trained is None else trained.parameters,
        "rows_per_second": None if trained is None else trained.rows_per_second,
        "points": [[step, value] for step, value in sorted(one.points.items())],
    }


def _of_finalist(one: Judged) -> dict[str, Any]:
    tried = one.finalist.tried
    return {
        "number": tried.number,
        "configured": not tried.changes,
        "searched": None if tried.trained is None else tried.trained.value,
        "mean": one.mean,
        "difference": one.difference,
        "within_bounds": one.within_bounds,
        "bytes": None if tried.trained is None else tried.trained.bytes,
        "changes": tried.changes,
    }


def comments_of(result: Mapping[str, Any]) -> list[str]:
    """The head of the tuned file: what was found, on which rows, and what mattered."""
    counts = {state: sum(one["state"] == state for one in result["trials"]) for state in ("trained", "stopped", "failed")}
    lines = [
        f"Written by `ctr-kd tune {result['configuration_file']}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "tune replaces this file as long as nobody edits it.",
        "",
        result["verdict"],
        "Validation only: no test row was read. `ctr-kd run` says what it is worth on them, once.",
    ]
    if result["changed"]:
        rows = [("changed", "to", "from")]
        rows += [(key, scalar(one["to"]), scalar(one["from"])) for key, one in result["changed"].items()]
        lines += ["", *text_table(rows).splitlines()]
    if result["importance"]:
        shares = [(key, f"{share:.2f}") for key, share in result["importance"].items()]
        varied = f"share of what validation varied by over {counts['trained']} trials"
        lines += ["", *text_table([("what mattered", varied), *shares]).splitlines()]
    lines += [
        "",
        f"{len(result['trials'])} trials ({counts['trained']} trained, {counts['stopped']} stopped early, {counts['failed']} failed) in "
        f"{time_text(result['seconds'])}; study {result['study']}",
    ]
    return [line.rstrip() for line in lines]
