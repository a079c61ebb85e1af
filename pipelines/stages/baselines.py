"""The baselines of stage ``evaluate`` and the teachers of stage ``distill`` that are no network, under their names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_kd.config import TEXT_TEACHERS
from pipelines.stages.training import SPLITS, fit_boosted_trees, probabilities, rate_of, stored_probabilities
from pipelines.tasks.clicks import RawRows
from pipelines.tasks.texts import TextRows
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ctr_kd.baselines.texts import LinearModel

Logits = dict[str, tuple["NDArray", "NDArray"]]  # row ids and logits by split
Measured = tuple["NDArray", dict[str, Any]]  # test probabilities, and what they cost


def popularity(context: StageContext, rows: RawRows) -> Measured:
    from ctr_kd.baselines.clicks import Popularity
    from feature_store.features.statistics import click_counts

    train, test = rows.read("train"), rows.read("test")
    counts = click_counts(context.config.statistics)
    fitted = Popularity.fit(train, train["label"].to_numpy(), (counts[0], counts[-1]))
    return fitted.predict(test), {"rows_per_second": rate_of(fitted.predict, test)}


def boosted_trees(context: StageContext, rows: RawRows) -> Measured | None:
    """Trees on the as-of statistics and the context; those that taught already are not fitted again."""
    if not context.config.evaluate.boosted_trees:
        return None
    if "boosted_trees" in context.config.distill.teachers:
        return as_teacher(context, "boosted_trees")
    trees = fit_boosted_trees({split: rows.read(split) for split in SPLITS}, rows.summary, context.config.seed, context.report)
    test = rows.read("test")
    return trees.predict(test), {"rows_per_second": rate_of(trees.predict, test)}


def oracle(context: StageContext, rows: RawRows) -> Measured | None:
    """The true click probabilities, where a simulated world knows them."""
    return (rows.read("test")["click_probability"].to_numpy(), {}) if rows.summary.oracle else None


def linear(context: StageContext, rows: TextRows) -> Measured:
    """TF-IDF of character n-grams under a linear machine; one that taught already is not fitted again."""
    if "linear" in context.config.distill.teachers:
        return as_teacher(context, "linear")
    model, test = fit_linear(rows, context.config.seed, context.report), rows.read("test")
    logits = model.predict(*rows.text_lists(test))
    return np.exp(logits.astype(np.float64)), {"rows_per_second": rate_of(lambda part: model.predict(*rows.text_lists(part)), test)}


def text_gcn(context: StageContext, rows: TextRows) -> Measured | None:
    """A graph network of texts and words, trained alone; its rows per second stay open, since it cannot score a text that comes later."""
    import torch

    from ctr_kd.baselines.text_gcn import build_graph, fit_text_gcn

    if not context.config.evaluate.text_gcn:
        return None
    tables = [rows.read(split) for split in SPLITS]
    graph = build_graph([text for table in tables for text in table["text"].to_pylist()])
    label = torch.from_numpy(np.concatenate([table["label"].to_numpy() for table in tables]).astype(np.int64))
    split = torch.from_numpy(np.repeat(np.arange(len(SPLITS)), [table.num_rows for table in tables]))
    train, validation = (torch.where(split == part, label, -1) for part in range(2))
    logits, epochs = fit_text_gcn(graph, train, validation, outputs=len(rows.classes), seed=context.config.seed, report=context.report)
    return probabilities(logits[split.numpy() == SPLITS.index("test")]), {"transductive": True, "epochs": epochs}


BASELINES: dict[str, Callable[[StageContext, Any], Measured | None]] = {
    "popularity": popularity,
    "boosted_trees": boosted_trees,
    "oracle": oracle,
    "linear": linear,
    "text_gcn": text_gcn,
}


def as_teacher(context: StageContext, name: str) -> Measured:
    """What one of the teachers says of the test rows, by itself, and what it costs."""
    distill = context.inputs["distill"]
    facts = (read_json(distill / "training.json") or {})[f"teacher/{name}"]
    return stored_probabilities(distill / f"predictions_teacher_{name}_test.parquet"), {"rows_per_second": facts["rows_per_second"]}


def tree_logits(
    rows: RawRows, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] | None = None
) -> tuple[Logits, dict[str, Any]]:
    """Row ids and logits by split of boosted trees; of ``more`` rows too, under their names."""
    tables = {split: rows.read(split) for split in SPLITS}
    trees = fit_boosted_trees(tables, rows.summary, seed, report)
    stored, began = {}, time.perf_counter()
    for split, table in (tables | dict(more or {})).items():
        stored[split] = table["row_id"].to_numpy(), trees.logits(table)
    count = sum(len(row_id) for row_id, _ in stored.values())
    return stored, {"rows_per_second": count / (time.perf_counter() - began), "trees": trees.trees}


def linear_logits(
    rows: TextRows, seed: int, report: Callable[[str], None], more: Mapping[str, pa.Table] | None = None, kind: str = "linear"
) -> tuple[Logits, dict[str, Any]]:
    """Row ids and logits by split of a linear model; of ``more`` rows too, under their names.

    Training rows are judged by the machine that learned them. Machines that did not (out of fold) are wrong where a label is right, and
    a student believes them: on the five classes it lost two points of accuracy by it.
    """
    model = fit_linear(rows, seed, report, kind)
    stored, began = {}, time.perf_counter()
    for split, table in ({split: rows.read(split) for split in SPLITS} | dict(more or {})).items():
        stored[split] = table["row_id"].to_numpy(), model.predict(*rows.text_lists(table))
    count = sum(len(row_id) for row_id, _ in stored.values())
    return stored, {"rows_per_second": count / (time.perf_counter() - began)}


TEACHERS: dict[str, Callable[..., tuple[Logits, dict[str, Any]]]] = {
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
