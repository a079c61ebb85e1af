"""The command that removes what a workspace no longer needs."""

from __future__ import annotations

from datetime import timedelta

import click

from pipelines.cli.options import Options, common
from pipelines.cli.session import session
from pipelines.errors import ConfigError
from pipelines.pruning import prune, would_remove
from pipelines.stages import PIPELINE


@click.command("prune")
@common
@click.option("--keep", type=click.IntRange(min=1), help="Newest artifacts of each stage that stay [default: retention.keep, 7]")
@click.option("--days", type=click.IntRange(0, 36500), help="What is younger stays [default: retention.age, 30 days]")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
def prune_command(options: Options) -> None:
    """Remove what nothing needs any more: old artifacts, reports, scorings that were never finished, and their runs in MLflow.

    What is up to date for this configuration stays, and so does whatever champion, challenger and all to which a rollback leads were made
    of, the newest of each stage, what is young, and all that any of these was made from. The store, the scores and the registered versions
    are never touched. What went is made again by whoever asks for it.

    \b
    Examples:
      ctr-kd prune conf/globo.yaml --workspace work/globo --dry-run
      ctr-kd prune conf/globo.yaml --workspace work/globo --keep 3 --days 7
      ctr-kd run conf/globo.yaml --workspace work/globo --set retention.after_run=true             after each run
    """
    if not options.workspace.is_dir():
        raise ConfigError(f"{options.workspace} is no workspace; name one with --workspace")
    retention = options.config().retention
    keep = options.more["keep"] or retention.keep
    age = retention.age if options.more["days"] is None else timedelta(days=options.more["days"])
    if options.more["dry_run"]:
        click.echo(would_remove(options.context(options.config(), read_only=True), keep, age))
        return
    with session("prune", options, PIPELINE) as runner:
        click.echo(prune(runner.context, keep, age))
