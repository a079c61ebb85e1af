"""Offline metrics of a registered student on the labelled rows of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.evaluation.tables import metrics_json
from feature_store.tables.casting import as_array, id_values, to_times
from feature_store.tables.contracts import DataError
from feature_store.tables.equal_rows import request_of_rows
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring.files import open_parquet, scored_batches
from pipelines.scoring.new_items import describe_new_items
from pipelines.workspace.context import RunContext

LABELS = ("clicked", "label")  # names of the column of labels
NOBODY = ""  # in place of a null id


def evaluate_file(run: RunContext, source: Path) -> str:
    """Metrics of a model on the labelled rows of a Parquet file, as JSON.

    Raises
    ------
    DataError
        When a required column is missing, there are no rows, or labels are other than 0 and 1, or other than the model's classes.
    """
    uri, version, model = load_chosen_model(run)
    describe_new_items(run, model)
    answers = model.answers
    columns: dict[str, list[np.ndarray]] = {"label": [], "score": []}
    with open_parquet(source) as file:
        names = file.schema_arrow.names
        label = next((name for name in LABELS if name in names), None)
        if label is None:
            raise DataError(f"{source}: column clicked is missing (label would do as well); offline metrics need labels")
        groups = [name for name in answers.groups if name in names]
        columns |= {name: [] for name in groups}
        for table, scores in scored_batches(run, model, file, source):
            try:
                columns["label"].append(answers.labels(table[label]))
            except ValueError as error:
                raise DataError(f"{source}: column {label} {error}") from None
            columns["score"].append(scores)
            for name in groups:
                columns[name].append(_group_values(table[name], name, source))
    if not columns["label"]:
        raise DataError(f"{source}: holds no rows, so there is nothing to measure")
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    user, request = joined.get("user_id"), joined.get("request_id")
    if request is not None:
        ids, users = (None if ids is None else pa.array(ids, pa.string(), mask=ids == NOBODY) for ids in (request, user))
        request = request_of_rows(joined["timestamp"], ids, users)
    settings = run.config.evaluate
    rows = EvaluationRows(joined["label"], user, request, classes=answers.classes)
    evaluation = evaluate_models(rows, {"model": joined["score"]}, replicates=settings.bootstrap, seed=settings.seed)
    facts = {"model": uri, "version": version, "rows": len(joined["label"])}
    return json.dumps(facts | metrics_json(evaluation.models["model"]), indent=1, allow_nan=False)


def _group_values(column: pa.ChunkedArray, name: str, source: Path) -> NDArray:
    """Times as microseconds, ids as text."""
    try:
        if name == "timestamp":
            return to_times(as_array(column))[0]
        values, bad = id_values(as_array(column))
    except TypeError as error:
        raise DataError(f"{source}: column {name} {error}") from None
    if bad.any():
        raise DataError(f"{source}: column {name} holds {as_array(column)[int(bad.argmax())]}; an id is text or an integer")
    return np.asarray(values.cast(pa.string()).fill_null(NOBODY).to_pylist(), object).astype(str)
