"""Teachers that are no network, by name: boosted trees for clicks, linear models for texts. Some of them are baselines too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.compute as pc

from ctr_kd.config import TEXT_TEACHERS
from feature_store.tables.contracts import label_column
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import SPLITS
from pipelines.tasks.texts import TextRows
from pipelines.tasks.timing import rate_of
from pipelines.workspace.context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ctr_kd.baselines.boosted_trees import BoostedTrees
    from ctr_kd.baselines.texts import LinearModel

Logits = dict[str, tuple["NDArray", "NDArray"]]  # row ids and logits by split


class Judgement(NamedTuple):
    """What a teacher says of rows, how fast, and of boosted trees how many they are and which library grew them."""

    logits: Logits
    rows_per_second: float | None
    trees: int | None = None
    library: str | None = None


def tree_logits(rows: ClickRows, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] | None = None) -> Judgement:
    """Row ids and logits by split of boosted trees; of ``more`` rows too, under their names.

    Each label has trees of its own; those of the click are timed and counted.
    """
    tables = {split: rows.read(split) for split in SPLITS}
    labels = (None, *rows.summary.labels)
    fitted = [fit_boosted_trees(rows, tables["train"], tables["validation"], seed, report, label) for label in labels]
    stored = {}
    for split, table in (tables | dict(more or {})).items():
        described = rows.described(table)
        stored[split] = table["row_id"].to_numpy(), np.concatenate([one.logits(described) for one in fitted], axis=1)
    first = fitted[0]
    speed = rate_of(lambda part: first.predict(rows.described(part)), tables["train"])
    return Judgement(stored, speed, first.trees.count, first.library)


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

    return {"boosted_trees": installed_library().name} if "boosted_trees" in run.config.distill.teachers else {}
