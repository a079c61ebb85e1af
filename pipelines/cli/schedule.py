"""Commands that a scheduler gives, beside those of the pipeline: scoring a range of dates, and watching what scores were worth."""

from __future__ import annotations

from typing import cast

import click

from pipelines.cli.options import Date, Options, common
from pipelines.cli.session import ensure_model, session
from pipelines.errors import BoundBroken, DatesFailed
from pipelines.scoring.backfill import Mode, backfill, outcome_table
from pipelines.stages import PIPELINE, monitor


@click.command("backfill")
@common
@click.option("--start", type=Date(), required=True, metavar="YYYY-MM-DD", help="First date.")
@click.option("--end", type=Date(), required=True, metavar="YYYY-MM-DD", help="Last date, inclusive.")
@click.option(
    "--mode",
    type=click.Choice(["missing", "failed", "all"]),
    default="missing",
    show_default=True,
    help="missing: dates without a finished partition, or whose events or settings changed since. failed: dates whose last attempt "
    "failed or was killed. all: every date, again.",
)
def backfill_command(options: Options) -> None:
    """Score every date of a range with the champion; a date that fails does not stop the others.

    Giving it again does only what is still to be done. A day of the log that comes late, or is corrected, makes its own date and
    later ones stale, whose histories reach back to it; earlier ones stay. A champion that moved makes no date missing: use --mode all.

    \b
    Examples:
      ctr-kd backfill conf/globo.yaml --workspace work/globo --start 2017-10-01 --end 2017-10-11
      ctr-kd backfill conf/globo.yaml --workspace work/globo --start 2017-10-01 --end 2017-10-11 --mode failed
    """
    start, end = options.more["start"], options.more["end"]
    if end < start:
        raise click.UsageError(f"--end {end} is before --start {start}")
    with session("backfill", options, PIPELINE) as runner:
        ensure_model(runner, None)
        outcomes = backfill(runner, start, end, cast(Mode, options.more["mode"]))
        click.echo(outcome_table(outcomes))
        failed = {one.day: one.code for one in outcomes if one.what == "failed"}
        if failed:
            raise DatesFailed(failed, len(outcomes))


@click.command("monitor")
@common
def monitor_command(options: Options) -> None:
    """Measure every scored date whose clicks have arrived: AUC, log loss, calibration, and drift of the scores; exit code 4 is an alarm.

    Labels are the impressions that were scored, or for live and retrieved candidates what was shown and clicked after scoring, as far
    as it is known at --as-of. On the newest one the champion's own teacher and the student alone are measured too, and how much of the
    teacher's lead reaches the student there. The bounds are under `monitor` in the configuration. Writes reports/monitor/monitor.json and
    monitor.html.

    \b
    Examples:
      ctr-kd monitor conf/globo.yaml --workspace work/globo
      ctr-kd monitor conf/globo.yaml --workspace work/globo --set monitor.auc_min=0.75 --set monitor.psi_max=0.2
    """
    with session("monitor", options, [PIPELINE[0], monitor.STAGE]) as runner:
        try:
            runner.run("monitor", "monitor", options.force)
        except BoundBroken:
            click.echo(monitor.monitor_table(runner.context))
            raise
        click.echo(monitor.monitor_table(runner.context))
