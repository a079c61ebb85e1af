"""Teachers that are no network, by name: boosted trees for clicks, linear models for texts. Some of them are baselines too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ctr_kd.config import TEXT_TEACHERS
from feature_store.features.summary import ClickSummary
from pipelines.tasks.clicks import ClickRows
from pipelines.tasks.logits import SPLITS
from pipelines.tasks.texts import TextRows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ctr_kd.baselines.clicks import BoostedTrees
    from ctr_kd.baselines.texts import LinearModel

Logits = dict[str, tuple["NDArray", "NDArray"]]  # row ids and logits by split


class Judgement(NamedTuple):
    """What a teacher says of rows, how fast, and of how many trees it is made, if of any."""

    logits: Logits
    rows_per_second: float
    trees: int | None = None


def tree_logits(rows: ClickRows, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] | None = None) -> Judgement:
    """Row ids and logits by split of boosted trees; of ``more`` rows too, under their names."""
    tables = {split: rows.read(split) for split in SPLITS}
    trees = fit_boosted_trees(tables, rows.summary, seed, report)
    stored, began = {}, time.perf_counter()
    for split, table in (tables | dict(more or {})).items():
        stored[split] = table["row_id"].to_numpy(), trees.logits(table)
    count = sum(len(row_id) for row_id, _ in stored.values())
    return Judgement(stored, count / (time.perf_counter() - began), trees.trees)


def linear_logits(
    rows: TextRows, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] | None = None, kind: str = "linear"
) -> Judgement:
    """Row ids and logits by split of a linear model; of ``more`` rows too, under their names.

    Training rows are judged by the machine that learned them. Machines that did not (out of fold) are wrong where a label is right, and
    a student believes them: on the five classes it lost two points of accuracy by it.
    """
    model = fit_linear(rows, seed, report, kind)
    stored, began = {}, time.perf_counter()
    for split, table in ({split: rows.read(split) for split in SPLITS} | dict(more or {})).items():
        stored[split] = table["row_id"].to_numpy(), model.predict(*rows.text_lists(table))
    count = sum(len(row_id) for row_id, _ in stored.values())
    return Judgement(stored, count / (time.perf_counter() - began))


TEACHERS: dict[str, Callable[..., Judgement]] = {
    "boosted_trees": tree_logits,
    **{kind: partial(linear_logits, kind=kind) for kind in TEXT_TEACHERS},
}


def fit_linear(rows: TextRows, seed: int, report: Callable[[str], None], kind: str = "linear") -> LinearModel:
    """A linear model that is a teacher in ``distill``; ``linear`` is a baseline in ``evaluate`` too."""
    from ctr_kd.baselines.texts import LinearModel

    train = rows.read("train")
    label = train["label"].to_numpy().astype(np.int64)
    model = LinearModel.fit(*rows.text_lists(train), label, seed, kind)
    read = "n-grams" if kind == "linear" else "n-grams and words"
    report(f"{kind}: {model.machine.n_features_in_:,} {read}, accuracy {model.out_of_fold:.4f} out of fold")
    return model


def fit_boosted_trees(rows: Mapping[str, pa.Table], summary: ClickSummary, seed: int, report: Callable[[str], None]) -> BoostedTrees:
    """The trees that are a teacher in ``distill`` and a baseline in ``evaluate``: on the as-of statistics and the context.

    Parameters
    ----------
    rows : mapping of str to Table
        Rows of :class:`pipelines.tasks.clicks.ClickRows` by split; ``train`` and ``validation`` are read.
    summary : ClickSummary
        Of the assembly.
    seed : int
    report : callable
        Takes one line of progress.
    """
    from ctr_kd.baselines.clicks import BoostedTrees

    return BoostedTrees.fit(
        rows["train"],
        rows["train"]["label"].to_numpy(),
        rows["validation"],
        rows["validation"]["label"].to_numpy(),
        statistics=[*summary.statistics, *summary.context.dense],
        categorical=summary.context.categorical,
        seed=seed,
        report=report,
    )
