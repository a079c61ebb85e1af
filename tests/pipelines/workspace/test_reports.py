"""Where reports lie: each in a folder of its own, and an experiment beside the run of the same configuration."""

from __future__ import annotations

import io
import json
from pathlib import Path

from pipelines.config.run import RunConfig
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_beside_run, publish_report
from pipelines.workspace.runner import Runner


def rows(context: StageContext) -> None:
    (context.output / "rows.txt").write_text("rows")


def report(context: StageContext) -> None:
    (context.output / "report.html").write_text("a page")
    configuration = context.config.section(("seed", "distill"))
    (context.output / "metrics.json").write_text(json.dumps({"run": {"configuration": configuration}}))


def experiment(context: StageContext) -> None:
    (context.output / "prove.json").write_text(f"seed {context.config.seed}")


STAGES = (
    Stage("ingest", rows, keys=("source",)),
    Stage("evaluate", report, ("ingest",), ("seed", "distill"), conclude=publish_report),
    Stage(
        "prove",
        experiment,
        ("ingest",),
        ("seed", "distill", "prove"),
        conclude=lambda context: publish_beside_run(context, ("prove.json",)),
    ),
)


def go(config: RunConfig, workspace: Path, *names: str, **changes: object) -> str:
    """Run these stages; the fingerprint of the last."""
    changed = RunConfig.model_validate(config.model_dump(by_alias=True) | changes)
    context = RunContext(changed, workspace, console=Console(io.StringIO()))
    Runner(context, [stage for stage in STAGES if stage.name in ("ingest", *names)]).run()
    return context.artifacts[names[-1]].path.name


def test_an_experiment_lies_beside_the_run_of_its_configuration(config: RunConfig, tmp_path: Path) -> None:
    first, second = (go(config, tmp_path, "evaluate", seed=seed) for seed in (1, 2))
    reports = tmp_path / "reports"
    latest = reports / "latest"
    assert str(latest.readlink()) == second
    go(config, tmp_path, "prove", seed=1, prove={"seeds": 3})  # a key that the run did not read
    assert (reports / first / "prove.json").read_text() == "seed 1" and not (reports / second / "prove.json").exists()
    assert str(latest.readlink()) == second
    alone = go(config, tmp_path, "prove", seed=3)
    assert (
        sorted(path.name for path in (reports / alone).iterdir()) == ["_manifest.json", "prove.json"] and str(latest.readlink()) == second
    )
    third = go(config, tmp_path, "evaluate", seed=3)
    assert str(latest.readlink()) == third
    go(config, tmp_path, "prove", seed=3)
    assert (reports / third / "prove.json").read_text() == "seed 3"


def test_a_run_on_other_rows_is_another_run(config: RunConfig, tmp_path: Path) -> None:
    run = go(config, tmp_path, "evaluate")
    go(config, tmp_path, "prove", source={"reader": "simulated", "simulator": {"users": 50}})
    assert not (tmp_path / "reports" / run / "prove.json").exists()
