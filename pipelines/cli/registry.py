"""The commands that move the champion by hand."""

from __future__ import annotations

from contextlib import suppress

import click

from pipelines.cli.options import Options, common
from pipelines.cli.session import session
from pipelines.errors import GateRefused
from pipelines.registry.alias_history import PROMOTE, breaks_in, history_table
from pipelines.registry.champion_record import RegistryLost, remember_champion
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHALLENGER, CHAMPION, GATE_TAG, Move, Registry
from pipelines.stages import PIPELINE
from pipelines.tracking.client import TrackingError, tracking_uri

_why = click.option("--why", default="", metavar="TEXT", help="The reason, for the history of champions.")


@click.command("promote")
@common
@_why
def promote_command(options: Options) -> None:
    """Make the challenger champion, whatever the gate said. Prints who replaced whom so far.

    \b
    Examples:
      ctr-kd promote conf/globo.yaml --workspace work/globo
      ctr-kd promote conf/globo.yaml --workspace work/globo --why "the old champion's files are lost"
    """
    with session("promote", options, PIPELINE) as runner:
        config, uri = runner.context.config, tracking_uri(runner.context.config, options.workspace)
        if alias_version(uri, config.name, CHALLENGER) is None:
            with suppress(GateRefused, RegistryLost):  # it is registered all the same, and the caller knows better
                runner.run(last="register")
        registry = Registry(uri, config.name)
        challenger = registry.alias(CHALLENGER)
        if challenger is None:
            raise TrackingError(f"{config.name} has no challenger; run `ctr-kd register` first")
        said = f"the gate had {registry.tags_of(challenger).get(GATE_TAG, 'said nothing')}"
        move = registry.promote(challenger, PROMOTE, options.more["why"] or f"by hand; {said}")
        remember_champion(options.workspace, config, move.after)
        _show_move(registry, move)


@click.command("rollback")
@common
@_why
def rollback_command(options: Options) -> None:
    """Make the previous champion champion again. Prints who replaced whom so far.

    \b
    Example:
      ctr-kd rollback conf/globo.yaml --workspace work/globo --why "clicks fell after the change"
    """
    with session("rollback", options, PIPELINE) as runner:
        config = runner.context.config
        registry = Registry(tracking_uri(config, options.workspace), config.name)
        move = registry.rollback(options.more["why"] or "by hand")
        remember_champion(options.workspace, config, move.after)
        _show_move(registry, move)


def _show_move(registry: Registry, move: Move) -> None:
    """From which version to which the alias went, and the changes before it."""
    click.echo(f"{registry.name}: champion was version {move.before or 'none'}, is version {move.after}")
    changes = registry.changes()
    click.echo(history_table(changes))
    for line in breaks_in(changes, registry.alias(CHAMPION)):
        click.echo(f"not in order: {line}: two commands at once, or the alias was moved by other means")
