"""The command that runs the nights that a team would have run."""

from __future__ import annotations

import click

from pipelines.cli.options import Length, Options, Time, common
from pipelines.cli.session import session
from pipelines.stages import PIPELINE
from pipelines.tracking.client import tracking_uri
from pipelines.tracking.tracker import Tracker


@click.command("backtest")
@common
@click.option("--start", type=Time(), required=True, help="The first night: when its validation window ends (UTC).")
@click.option("--end", type=Time(), required=True, help="Where the window after the last night ends at the latest.")
@click.option("--step", type=Length(), required=True, help="From one night to the next; each is tested on so long after it.")
@click.option("--warm", is_flag=True, help="Let each night continue from the champion of then [default: each begins cold]")
def backtest_command(options: Options) -> None:
    """Run the nights that a team would have run, and say what each was worth afterwards.

    Each night trains everything on windows as long as those of the configuration that end at it, and is measured on the step after it. One
    test window says little: judge a change of the configuration by the mean over nights, whose interval resamples nights. The page has AUC
    over time, mean differences, calibration, what the gate would have done, and what each night took. A backtest that was stopped goes on,
    and a longer one reuses what stands. Nothing is registered. Writes reports/backtest/backtest.json and backtest.html.

    With --warm a night learns what is new since the champion of then, as `ctr-kd run --warm` does. Nights that stand in the workspace as
    cold ones too are compared: run the command without --warm first, and the page says what warm nights are worth less, and cost.

    A click of a night's windows that became known after it counts as known: in a log that says when (source.events.ingested) the labels
    of a night hold more than they did then.

    \b
    Examples:
      ctr-kd backtest conf/globo.yaml --data data/globo --workspace work/globo --start 2017-10-10T08:00 --end 2017-10-12T00:00 --step 4h
      ctr-kd backtest conf/mine.yaml --start 2024-05-01 --end 2024-05-15 --step 1d --set "embeddings={block: 10m}"      judges a change
    """
    from pipelines.experiments.backtest import backtest

    if options.first or options.last or options.as_of:
        raise click.UsageError("backtest runs whole nights, as of each: leave out --from, --until and --as-of")
    options.config().need_clicks()
    options = options.starting("warm" if options.more["warm"] else "cold")
    with session("backtest", options, [stage for stage in PIPELINE if stage.name not in ("register", "score")]) as runner:
        run, more = runner.context, options.more

        def tracker() -> Tracker:
            return Tracker(tracking_uri(run.config, run.workspace), run.workspace, run.report)

        click.echo(backtest(runner, more["start"], more["end"], more["step"], tracker=tracker))
