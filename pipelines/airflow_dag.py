"""An Airflow DAG of a configuration: the pipeline's stages as tasks, then monitoring, once per logical time.

A file in Airflow's folder of DAGs names the configuration::

    from pipelines.airflow_dag import pipeline_dag

    dag = pipeline_dag("/srv/ctr_kd/conf/mine.yaml", "/srv/ctr_kd/workspace", data="/srv/log", program="/srv/ctr_kd/.venv/bin/ctr-kd")

The tasks run the command line in an environment of its own, so Airflow's needs no other package of the project's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from pipelines.config.run import load
from pipelines.config.shipped import shipped_file
from pipelines.scheduled_pipeline import FINAL_CODES, ScheduledPipeline


class StepOperator(BaseOperator):
    """Runs one step of a pipeline; fails for good where another try would end the same.

    Parameters
    ----------
    pipeline : ScheduledPipeline
    step : str
    """

    def __init__(self, *, pipeline: ScheduledPipeline, step: str, **settings: Any) -> None:
        super().__init__(task_id=step, **settings)
        self.pipeline, self.step = pipeline, step
        self.hook = SubprocessHook()

    def execute(self, context: Any) -> None:
        run = context["dag_run"]
        moment = run.logical_date or run.run_after  # a run that somebody triggers by hand may have no logical date
        result = self.hook.run_command(self.pipeline.command(self.step, moment))
        if result.exit_code in FINAL_CODES:
            raise AirflowFailException(f"exit code {result.exit_code}, which another try would not change: {result.output}")
        if result.exit_code:
            raise AirflowException(f"exit code {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        """Stop the command as a person would; the next try continues at its checkpoint."""
        self.hook.send_sigterm()


def pipeline_dag(conf: str | Path, workspace: str | Path, data: str | Path | None = None, program: str = "ctr-kd") -> DAG:
    """The DAG of a configuration, as its block ``schedule`` says.

    Parameters
    ----------
    conf, workspace, data : path
        As on the command line; relative ones are those of the process that reads the DAG.
    program : str
        The command line's program.

    Raises
    ------
    ConfigError
        When the configuration is wrong; Airflow shows it as the file's import error.
    """
    config = load(conf)
    schedule = config.schedule
    file = shipped_file(Path(conf)) or Path(conf)
    pipeline = ScheduledPipeline(
        config, file.absolute(), Path(workspace).absolute(), None if data is None else Path(data).absolute(), (program,)
    )
    dag = DAG(
        f"ctr_kd_{config.name}",
        description=f"From the raw log to scores, as {Path(conf).name} says",
        schedule=CronTriggerTimetable(schedule.cron, timezone="UTC"),
        start_date=schedule.start,
        catchup=schedule.catchup,
        max_active_runs=1,  # a workspace belongs to one run at a time
        default_args={"retries": schedule.retries, "retry_delay": schedule.retry_delay},
    )
    with dag:
        chain(*(StepOperator(pipeline=pipeline, step=step) for step in pipeline.steps))
    return dag
