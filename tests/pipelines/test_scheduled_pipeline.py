"""The commands of a logical time, in the order of the runner, and made without what a scheduler's environment lacks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from pipelines.config.run import RunConfig
from pipelines.scheduled_pipeline import STAGES, ScheduledPipeline
from pipelines.stages import PIPELINE
from tests.pipelines.conftest import MINIMAL
from tests.programs import HANGS

NIGHT = datetime(2024, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))


def pipeline(**blocks: object) -> ScheduledPipeline:
    return ScheduledPipeline(RunConfig.model_validate({**MINIMAL, **blocks}), Path("/conf/a b.yaml"), Path("/work"))


def test_the_steps_are_the_runners_stages_and_monitoring() -> None:
    assert tuple(stage.name for stage in PIPELINE) == STAGES
    assert pipeline().steps == (*STAGES, "monitor")
    assert pipeline(retention={"after_run": True}).steps == (*STAGES, "monitor", "prune")
    assert pipeline(retention={"after_run": True}).command("prune", NIGHT)[1:3] == ["prune", "/conf/a b.yaml"]


def test_a_command_is_a_list_of_words_in_utc() -> None:
    moment = "2024-02-29T23:30:00+00:00"
    assert pipeline().command("pretrain", NIGHT) == ["ctr-kd", "pretrain", "/conf/a b.yaml", "--workspace", "/work", "--as-of", moment]
    told = replace(pipeline(), data=Path("/log"), program=("python", "-m", "pipelines")).command("ingest", NIGHT)
    assert told[:4] == ["python", "-m", "pipelines", "ingest"] and told[-2:] == ["--data", "/log"]


def test_the_scored_date_lies_before_the_logical_time() -> None:
    assert pipeline().command("score", NIGHT)[-2:] == ["--date", "2024-02-28"]
    assert pipeline(schedule={"scored_days_back": 0}).command("score", datetime(2024, 1, 1, 5, tzinfo=UTC))[-2:] == ["--date", "2024-01-01"]


def test_texts_have_no_date_and_nothing_to_watch() -> None:
    texts = RunConfig.model_validate({"name": "t", "source": {"reader": "text", "train": "a.tsv", "test": "b.tsv"}})
    steps = replace(pipeline(), config=texts)
    assert steps.steps == STAGES and "--date" not in steps.command("score", NIGHT)


def test_a_schedulers_environment_needs_no_heavy_package() -> None:
    imports = "import sys, pipelines.scheduled_pipeline"
    code = imports + "; print(*{'torch', 'numpy', 'pyarrow', 'mlflow', 'duckdb'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True, timeout=HANGS
    )
    assert not done.stdout.strip()
