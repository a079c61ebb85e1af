"""What models are compared with on the test rows, by name; the tasks say which of them their rows have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.features.statistics import click_counts
from pipelines.config.evaluate import EvaluateConfig
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import MOST_FITTED, fit_boosted_trees, fit_linear
from pipelines.tasks.logits import SPLITS, probabilities
from pipelines.tasks.texts import TextRows
from pipelines.tasks.timing import rate_of
from pipelines.workspace.context import RunContext, StageContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

Measured = tuple["NDArray", dict[str, Any]]  # test probabilities, and what they cost


def popularity(context: StageContext, rows: ClickRows) -> Measured | None:
    from ctr_kd.baselines.popularity import Popularity

    test = rows.read("test")
    counts = click_counts(context.config.statistics)
    if not {counts[0], counts[-1]} <= {*rows.summary.statistics, *rows.summary.context.dense}:
        return None  # a categorical column of the log is called so
    names = {counts[0], counts[-1], "label", *(["row_weight"] if rows.summary.weighted else [])}
    train = rows.read("train", sorted(names), newest=MOST_FITTED)
    fitted = Popularity.fit(train, train["label"].to_numpy(), (counts[0], counts[-1]), rows.weight(train))
    return fitted.predict(test), {"rows_per_second": rate_of(fitted.predict, test)}


def boosted_trees(context: StageContext, rows: ClickRows) -> Measured:
    """Trees on all that is known of a row but its ids: what somebody would use who distils nothing."""
    train = rows.read("train", newest=MOST_FITTED)
    fitted = fit_boosted_trees(rows, train, rows.read("validation"), context.config.seed, context.report)
    test = rows.read("test")
    speed = rate_of(lambda part: fitted.predict(rows.described(part)), test)
    return fitted.predict(rows.described(test)), {"rows_per_second": speed, "library": fitted.library, "trees": fitted.trees.count}


def oracle(context: StageContext, rows: ClickRows) -> Measured | None:
    """The true click probabilities, where a simulated world knows them."""
    return (rows.read("test")["click_probability"].to_numpy(), {}) if rows.summary.oracle else None


def linear(context: StageContext, rows: TextRows) -> Measured:
    """TF-IDF of character n-grams under a linear machine."""
    model, test = fit_linear(rows, context.config.seed, context.report), rows.read("test")
    logits = model.predict(*rows.text_lists(test))
    return np.exp(logits.astype(np.float64)), {"rows_per_second": rate_of(lambda part: model.predict(*rows.text_lists(part)), test)}


def text_gcn(context: StageContext, rows: TextRows) -> Measured:
    """A graph network of texts and words, trained alone; its rows per second stay open, since it cannot score a text that comes later."""
    import torch

    from ctr_kd.baselines.text_gcn import build_graph, fit_text_gcn

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


def fitted_library(run: RunContext) -> dict[str, str]:
    """Which library grows trees here, where the boosted trees are measured: those of another are another baseline."""
    from ctr_kd.baselines.tree_libraries import installed_library

    measured = run.config.task == "clicks" and run.config.evaluate.boosted_trees
    return {"boosted_trees": installed_library().name} if measured else {}


def is_asked_for(name: str, config: EvaluateConfig) -> bool:
    """Whether a baseline is wanted: some take long, and have a key of their own."""
    return {"boosted_trees": config.boosted_trees, "text_gcn": config.text_gcn}.get(name, True)
