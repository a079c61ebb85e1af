"""The command that brings what students read up to the newest clicks without training a model: item vectors and teacher states."""

from __future__ import annotations

import click

from feature_store.config import AssemblyConfig
from feature_store.features.time_split import utc
from pipelines.cli.options import Options, common
from pipelines.cli.session import session
from pipelines.errors import ConfigError
from pipelines.registry.champion import ChosenModel, load_chosen_model
from pipelines.registry.lookup import alias_version
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.stages import PIPELINE
from pipelines.stages.ingest import ingest_new_rows
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.context import RunContext

CHAMPIONS = "the champion"
VECTORS_TAG = "vectors"  # of a version in the registry: which vectors it reads since the last refresh
STATES_TAG = "teacher_states"  # likewise: the encoder of the states that it reads


@click.command("refresh")
@common
def refresh_command(options: Options) -> None:
    """Learn the newest clicks: what is scored from now on is judged by item vectors of minutes ago.

    New rows of the raw log go into the store; each complete block of their clicks (`embeddings.block`) is learned, which takes seconds.
    The student stays as it is: vectors are facts, as counts are. Those that the champion reads are refreshed, and those of the
    configuration where they are others. The champion's version in the registry is tagged with the vectors that it reads now.

    Teacher states (`teacher_state`) are made for every night that is complete, by the encoder whose states the champion reads.

    \b
    Examples:
      ctr-kd refresh conf/globo.yaml --workspace work/globo --data data/globo
      ctr-kd refresh conf/globo.yaml --workspace work/globo --as-of 2017-10-11T16:30
    """
    options.config().need_clicks()
    with session("refresh", options, PIPELINE) as runner:
        for line in refresh(runner.context):
            click.echo(line)


def refresh(run: RunContext) -> list[str]:
    """Bring the store, the vectors and the champion's states up to date; what was done, a line for each setting of vectors and for states.

    Raises
    ------
    ConfigError
        When neither the configuration nor the champion has any.
    """
    champion = _champion(run)
    wanted = _read_vectors(run, champion)
    states = None if champion is None else champion.loaded.assembly(run.config.assembly)
    states = states if states is not None and states.teacher_state is not None else None
    if not wanted and states is None:
        if run.config.teacher_state is not None:
            raise ConfigError("no champion reads teacher states yet: there is nothing to refresh; `ctr-kd run` trains one")
        raise ConfigError("neither the configuration nor the champion has `embeddings`: there is nothing to refresh")
    ingest_new_rows(run)
    from pipelines.tasks.embedding_facts import learn_newest_clicks

    lines = []
    for whose, config in wanted.items():
        learned = learn_newest_clicks(run, config)
        entries = learned.facts.entries
        if not entries:
            lines.append(f"vectors of {whose}: no block is complete yet")
            continue
        done, version, until = f"{learned.clicks:,} clicks learned", entries[-1].sha256[:12], utc(entries[-1].until)
        lines.append(f"vectors of {whose}: {done}, all until {until:%Y-%m-%d %H:%M:%S} UTC; version {version}")
        if champion is not None and whose == CHAMPIONS:
            registry = Registry(tracking_uri(run.config, run.workspace), run.config.name)
            registry.add_tags(champion.version, {VECTORS_TAG: version, f"{VECTORS_TAG}_until": until.isoformat()})
    return [*lines, *([] if champion is None or states is None else [_refresh_states(run, champion, states)])]


def _refresh_states(run: RunContext, champion: ChosenModel, config: AssemblyConfig) -> str:
    """Make the states of the nights that are complete, by the encoder of the champion; what was done, in a line."""
    from pipelines.tasks.teacher_states import bring_up_to_date, states_of

    known, made = bring_up_to_date(run, config, "refresh")
    encoder, until = str(states_of(config).encoder), utc(known.until)
    registry = Registry(tracking_uri(run.config, run.workspace), run.config.name)
    registry.add_tags(champion.version, {STATES_TAG: encoder, f"{STATES_TAG}_until": until.isoformat()})
    return f"teacher states of {CHAMPIONS}: {made:,} made, the newest of {until:%Y-%m-%d %H:%M:%S} UTC, by {encoder}"


def _champion(run: RunContext) -> ChosenModel | None:
    known = alias_version(tracking_uri(run.config, run.workspace), run.config.name, CHAMPION) is not None
    return load_chosen_model(run) if known else None


def _read_vectors(run: RunContext, champion: ChosenModel | None) -> dict[str, AssemblyConfig]:
    """How the vectors of the champion, and those of the configuration where they are others, are learned."""
    config, found = run.config, {}
    if champion is not None:
        found[CHAMPIONS] = champion.loaded.assembly(config.assembly)
    found["the configuration"] = config.assembly
    kept: dict[str, AssemblyConfig] = {}
    for whose, one in found.items():
        if one.embeddings is not None and all(
            (one.embeddings, one.history) != (other.embeddings, other.history) for other in kept.values()
        ):
            kept[whose] = one
    return kept
