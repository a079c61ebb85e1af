"""Models that are no network, teachers in ``distill`` and baselines in ``evaluate``: boosted trees of clicks, linear ones of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from feature_store.tables.contracts import label_column
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.texts import TextRows
from pipelines.workspace.context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from ctr_kd.baselines.boosted_trees import BoostedTrees
    from ctr_kd.baselines.texts import LinearModel


MOST_FITTED = 1 << 23
"""Training rows, the newest, that a model learns from which holds all that it learns from in memory."""


def fit_linear(rows: TextRows, seed: int, report: Callable[[str], None], kind: str = "linear") -> LinearModel:
    """A linear model that is a teacher in ``distill``; ``linear`` is a baseline in ``evaluate`` too."""
    from ctr_kd.baselines.texts import LinearModel

    train = rows.read("train")
    label = train["label"].to_numpy().astype(np.int64)
    model = LinearModel.fit(*rows.text_lists(train), label, seed, kind)
    read = "n-grams" if kind == "linear" else "n-grams and words"
    report(f"{kind}: {model.machine.n_features_in_:,} {read}, accuracy {model.out_of_fold:.4f} out of fold")
    return model


def fit_boosted_trees(
    rows: ClickRows, train: pa.Table, validation: pa.Table, seed: int, report: Callable[[str], None], label: str | None = None
) -> BoostedTrees:
    """The trees that are a teacher in ``distill`` and a baseline in ``evaluate``: on all that is known of a row but its ids.

    Parameters
    ----------
    rows : ClickRows
        Of which the tables are, and which describes whatever the trees are to judge
        (:meth:`~pipelines.tasks.click_rows.ClickRows.described`).
    train, validation : Table
    seed : int
    report : callable
        Takes one line of progress.
    label : str, optional
        A further label, learned from the rows that say it; by default the click.
    """
    from ctr_kd.baselines.boosted_trees import BoostedTrees

    column = "label" if label is None else label_column(label)
    if label is not None:
        train, validation = (table.filter(pc.is_valid(table[column])) for table in (train, validation))
    return BoostedTrees.fit(
        rows.described(train),
        train[column].to_numpy(),
        rows.described(validation),
        validation[column].to_numpy(),
        numeric=rows.numeric,
        categorical=rows.categorical,
        weight=rows.weight(train),
        validation_weight=rows.weight(validation),
        seed=seed,
        report=report if label is None else lambda text: report(f"{label}: {text}"),
    )


def teaching_library(run: RunContext) -> dict[str, str]:
    """Which library grows trees here, where trees teach: those of another library are another teacher, and none is mixed with it."""
    from ctr_kd.baselines.tree_libraries import installed_library

    return {"boosted_trees": installed_library().name} if "boosted_trees" in run.config.distill.teacher_weights else {}
