"""``statistics.auto``: what of the proposed statistics is worth its columns, found by boosted trees before the rows are made.

No row of the test window is looked at: the trees learn from the newest part of the training window, and are judged on validation.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ctr_kd.baselines.tree_libraries import import_library
from ctr_kd.evaluation.column_importance import column_importance
from ctr_kd.metrics.bootstrap import Difference
from ctr_kd.metrics.checks import UndefinedMetric
from feature_store.config_statistics import DeclaredConfig, StatisticsConfig
from feature_store.config_types import duration_text
from feature_store.features.statistics_proposal import Proposal, propose_statistics
from feature_store.features.training_set import assemble
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import write_text
from pipelines.config.run import RunConfig, scalar
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import fit_boosted_trees
from pipelines.workspace.context import StageContext

FILE = "statistics.yaml"
MOST_COLUMNS = 18  # counts and shares: with so many more, a date is scored at some 0.7 times the speed


@dataclass(frozen=True)
class Kept:
    """A declaration that is worth its columns.

    Attributes
    ----------
    declared : DeclaredConfig
        With the windows that are kept.
    gain : Difference
        AUC of the trees less that with all columns of the key permuted.
    """

    declared: DeclaredConfig
    gain: Difference

    def __str__(self) -> str:
        return f"{scalar(self.declared.by)} {self.gain.difference:+.4f} [{self.gain.low:+.4f}, {self.gain.high:+.4f}]"


def with_chosen_statistics(context: StageContext) -> RunConfig:
    """The configuration of a run that chooses its statistics, with what was chosen declared instead; writes ``statistics.yaml``.

    Everything random in it is seeded by ``candidates.seed``, as the rows themselves are.

    Parameters
    ----------
    context : StageContext
        The files go into its output folder; what a killed trial left there is removed.
    """
    config, began, scratch = context.config, time.monotonic(), context.output / "_trial"
    shutil.rmtree(scratch, ignore_errors=True)
    kept: list[Kept] = []
    why = ""
    try:
        proposal = propose_statistics(context.store, config.assembly, config.feature_store, context.as_of, scratch)
        if proposal is None:
            why = ", since no context column and no attribute has few values"
        else:
            kept = try_statistics(context, proposal, scratch)
    except (DataError, UndefinedMetric) as reason:
        why = f", since the rows are too few for a trial ({reason})"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    own = config.statistics.of
    statistics = config.statistics.model_copy(update={"of": (*own, *(one.declared for one in kept)), "auto": False})
    write_text(context.output / FILE, as_yaml(statistics, kept))
    said = ", ".join(map(str, kept)) if kept else f"none{why}"
    context.report(f"statistics.auto: {said}; {time.monotonic() - began:.0f} s, written to {context.output / FILE}")
    return config.model_copy(update={"statistics": statistics})


def try_statistics(context: StageContext, proposal: Proposal, folder: Path) -> list[Kept]:
    """Assemble the rows of a trial, grow trees on them, and keep what they lose AUC without.

    Raises
    ------
    DataError
        When a window of the trial holds too few rows.
    UndefinedMetric
        When an AUC or its interval is not defined on them.
    """
    keys = ", ".join(scalar(one.by) for one in proposal.declared)
    windows = ", ".join(map(duration_text, proposal.declared[0].windows))
    context.report(f"statistics.auto: trying {keys} in windows of {windows}")
    seed, engine = proposal.trial.candidates.seed, context.config.feature_store
    threading.Thread(target=import_library, daemon=True).start()  # while the engine assembles the rows
    summary = assemble(context.store, proposal.trial, engine, context.as_of, folder)
    context.report(f"statistics.auto: a trial of {sum(summary.rows.values()):,} rows with {len(summary.statistics):,} statistics")
    rows = ClickRows(folder)
    judged = rows.read("test")
    label, user, described = judged["label"].to_numpy(), judged["user"].to_numpy(), rows.described(judged)
    trees = fit_boosted_trees(
        rows, rows.read("train"), rows.read("validation"), seed, lambda line: context.report(f"statistics.auto: {line}")
    )

    scores, weight = trees.predict(described), rows.weight(judged)

    def gains(declared: Sequence[DeclaredConfig]) -> list[Difference]:
        groups = {str(n): [name for name in names(one) if name in rows.numeric] for n, one in enumerate(declared)}
        found = column_importance(trees.predict, described, label, user, groups, scores=scores, weight=weight, seed=seed)
        return list(found.values())

    by_key = dict(zip(proposal.declared, gains(proposal.declared), strict=True))
    telling = {declared: gain for declared, gain in by_key.items() if gain.low > 0}
    single = [of_windows(declared, [window]) for declared in telling for window in declared.windows]
    return within_budget(telling, dict(zip(single, gains(single), strict=True)))


def within_budget(telling: Mapping[DeclaredConfig, Difference], single: Mapping[DeclaredConfig, Difference]) -> list[Kept]:
    """The keys that tell, the best first, with those of their windows that tell most: as many as :data:`MOST_COLUMNS` allows.

    Parameters
    ----------
    telling : mapping of DeclaredConfig to Difference
        What each key is worth with all its windows.
    single : mapping of DeclaredConfig to Difference
        The same keys with a window each, and what that is worth.
    """
    chosen: list[DeclaredConfig] = []
    for one in sorted(single, key=lambda one: -single[one].difference):
        if sum(len(names(other)) for other in (*chosen, one)) <= MOST_COLUMNS:
            chosen.append(one)
    kept = []
    for declared, gain in sorted(telling.items(), key=lambda item: -item[1].difference):
        windows = [window for one in chosen if one.by == declared.by for window in one.windows]
        if windows:
            kept.append(Kept(of_windows(declared, windows), gain))
    return kept


def names(declared: DeclaredConfig) -> list[str]:
    """Its columns."""
    return [one.name for one in declared.statistics()]


def of_windows(declared: DeclaredConfig, windows: Sequence[timedelta]) -> DeclaredConfig:
    """The same with these windows."""
    return declared.model_copy(update={"windows": tuple(sorted(windows))})


def as_yaml(statistics: StatisticsConfig, kept: Sequence[Kept]) -> str:
    """A block ``statistics:`` that gives the same rows in any configuration, each chosen declaration under what it is worth.

    Parameters
    ----------
    statistics : StatisticsConfig
        What was chosen is among its declarations.
    kept : sequence of Kept
    """
    gains = {one.declared: str(one) for one in kept}
    lines = [
        "# Chosen by statistics.auto. In a configuration, in place of its statistics, this block gives the same rows; edit it there.",
        "# Above a key: the AUC that boosted trees lost on validation with all its columns permuted, and the 95 % interval of that.",
        "statistics:",
    ]
    for name in type(statistics).model_fields:
        if name == "of":
            lines.append("  of:" if statistics.of else "  of: []")
            for declared in statistics.of:
                lines.append(f"    # {gains.get(declared, 'declared before')}")
                lines.append(f"    - {scalar(declared)}")
        else:
            lines.append(f"  {name}: {scalar(getattr(statistics, name))}")
    return "\n".join(lines) + "\n"
