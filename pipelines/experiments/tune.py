"""Stage tune: a search for better values of the configuration's own keys, judged on the validation rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_store.tables.json_files import digest_of, write_json, write_text
from pipelines.experiments.tuning.clock import Clock, time_text
from pipelines.experiments.tuning.finals import judge
from pipelines.experiments.tuning.result import comments_of, result_of
from pipelines.experiments.tuning.search import Asked, Search
from pipelines.experiments.tuning.space import space_of
from pipelines.experiments.tuning.study import Study, need_optuna
from pipelines.experiments.tuning.trials import need_two_classes
from pipelines.experiments.tuning.tuned_file import refuse_edited, write_tuned
from pipelines.experiments.tuning.workers import Plan, Pool
from pipelines.metrics import RunFacts
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_apart
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table

FILE, PAGE = "tune.json", "tune.html"


def tune(runner: Runner, asked: Asked) -> str:
    """Search, judge the finalists, write the tuned configuration and the page; returns what is said of it.

    Parameters
    ----------
    runner : Runner
        Of stage ``ingest``.
    asked : Asked

    Raises
    ------
    ConfigError
        When a key of the space is none, the tuned file is not one that may be replaced, or the budget is too small.
    DataError
        When validation holds one class.
    """
    need_optuna()
    run = runner.context
    given = run.config
    if given.tune.space:
        space_of(given)  # what is wrong with it is said before anything is made
    refuse_edited(asked.output)
    runner.run()
    settled, run.config = run.config, given  # a trial changes what is written, and lets the log decide the rest again
    space = space_of(settled)
    need_two_classes(run)
    study = Study(run, space, settled, asked.anew)
    clock = Clock(asked.budget.total_seconds(), study.seconds, asked.processes)
    with Pool(Plan.of(run, asked.log_format), asked.processes) as pool:
        search = Search(run, study, clock, pool)
        if clock.before:
            run.report(f"goes on with {len(study.tried())} trials; {time_text(clock.before)} of {time_text(clock.budget)} are used", "tune")
        search.until_the_finals()
        finalists = search.finals()
    judged = judge(run, finalists)
    result = result_of(run, study, space, clock, finalists, judged, asked)
    write_tuned(asked.output, asked.conf, asked.overrides, {key: one["to"] for key, one in result["changed"].items()}, comments_of(result))
    stage = Stage(
        "tune",
        lambda context: _write(context, result),
        source=_write.__module__,
        upstream=("ingest",),
        keys=("name", "tune"),
        outside=lambda _: {"result": digest_of(result)},
        conclude=lambda context: publish_apart(context, "tune", (FILE, PAGE)),
    )
    Runner(run, [stage]).run()
    return tune_table(run)


def _write(context: StageContext, result: Mapping[str, Any]) -> None:
    from ctr_kd.report import render_tune

    written = {"run": RunFacts.of(context).to_json(), **result}
    write_json(context.output / FILE, written)
    write_text(context.output / PAGE, render_tune(written))
    values = [one["value"] for one in result["trials"] if one["value"] is not None]
    context.record({"trials": len(result["trials"]), "best": max(values)} if values else {"trials": len(result["trials"])})


def tune_table(run: RunContext) -> str:
    """The verdict, the finalists, what mattered, and where file and page are."""
    from ctr_kd.report import WORDS

    result: Mapping[str, Any] = read_json(run.artifacts["tune"].path / FILE) or {}
    lines = [result["verdict"]]
    if result["finalists"]:
        rows = [("finalist", f"{WORDS[result['metric']]} on validation", "against as configured")]
        for one in result["finalists"]:
            name = "as configured" if one["configured"] else f"trial {one['number']}"
            rows.append(
                (name, _figure(one["mean"], "value"), "" if one["difference"] is None else _figure(one["difference"], "difference"))
            )
        lines += ["", text_table(rows)]
    if result["importance"]:
        lines += ["", text_table([("what mattered", "share"), *((key, f"{share:.2f}") for key, share in result["importance"].items())])]
    place = run.workspace / "reports" / "tune" / PAGE
    return "\n".join([*lines, "", f"configuration: {result['file']}", f"report: {place}"])


def _figure(figure: Mapping[str, Any], name: str) -> str:
    value = f"{figure[name]:{'+' if name == 'difference' else ''}.4f}"
    sign = "+" if name == "difference" else ""
    return value if figure.get("low") is None else f"{value} [{figure['low']:{sign}.4f}, {figure['high']:{sign}.4f}]"
