"""Challenger and champion on the same, newest test rows: what each is worth there, knows, weighs and takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from pipelines.config.register import RegisterConfig
from pipelines.registry.latency import measure_latency
from pipelines.registry.model_package import DATA, load_scorer
from pipelines.registry.promotion_gate import Difference, ModelFigures
from pipelines.registry.slices import PartDifference
from pipelines.tasks import Rows
from pipelines.tasks.answers import answers_of

CHALLENGER, CHAMPION = "challenger", "champion"


class Mismatch(Exception):
    """The champion's answers cannot be compared with the challenger's; the message says why."""


class ChampionComparison(NamedTuple):
    """What was measured; without a champion ``champion`` is None and there are neither differences nor parts."""

    challenger: ModelFigures
    champion: ModelFigures | None
    differences: Mapping[str, Difference]
    parts: Mapping[str, Sequence[PartDifference]]  # by column of ``register.slices``; those with enough rows and an interval


def compare_with_champion(
    *, test: Rows, rows: pa.Table, trained: NDArray[np.float64], model: Path, champion: Path | None, bounds: RegisterConfig
) -> ChampionComparison:
    """Measure a model, and the champion on the same rows.

    Parameters
    ----------
    test : Rows
        Turns ``rows`` into what a caller of the model sends.
    rows : pyarrow Table
        The test rows; the newest of them are used.
    trained : float array (rows,) or (rows, classes)
        The trained student's probabilities of ``rows``.
    model, champion : Path
        Saved models whose digests were checked; ``champion`` is None where there is none.
    bounds : RegisterConfig

    Raises
    ------
    Mismatch
        When the champion tells other classes, or cannot read the rows.
    """
    first = test.newest(rows, bounds.champion_rows)
    part = rows.slice(first)
    models = {CHALLENGER: model} | ({CHAMPION: champion} if champion else {})
    scorers = {name: load_scorer(path) for name, path in models.items()}
    items = test.described_items() if champion else None
    if items is not None and getattr(scorers[CHAMPION], "item_vectors", None):
        try:
            scorers[CHAMPION].describe(items)  # as a scoring job tells it, of items that are younger than the champion
        except ValueError as error:
            raise Mismatch(f"it reads other vectors: {error}") from None
    scores, unseen = {CHALLENGER: trained[first:]}, dict.fromkeys(models, np.zeros(2, np.int64))
    answers: list[NDArray[np.float64]] = []
    for table in test.batches(part):
        for name, scorer in scorers.items():
            unseen[name] = unseen[name] + answers_of(scorer).unseen(table)
        if champion:
            try:
                answers.append(scorers[CHAMPION].score(table))
            except ValueError as error:  # of its own scorer: a vector of users may have another width now
                raise Mismatch(f"it does not read these rows: {error}") from None
    if champion:
        scores[CHAMPION] = np.concatenate(answers)
        if scores[CHAMPION].shape != scores[CHALLENGER].shape:
            raise Mismatch(f"it scores {scores[CHAMPION].shape[1:]} classes, the challenger {trained.shape[1:]}")
    masks: dict[str, tuple[str, str, NDArray[np.bool_]]] = {}  # column, part and its rows, under names that no two share
    for column in bounds.slices:
        for value, mask in test.parts(part, column).items():
            if champion and mask.sum() >= bounds.slice_rows:
                masks[f"{len(masks)}"] = column, value, mask
    label, user = part["label"].to_numpy(), part["user"].to_numpy() if "user" in part.column_names else None
    evaluation = evaluate_models(
        EvaluationRows(
            label,
            user,
            slices={name: mask for name, (*_, mask) in masks.items()},
            negative_sampling_rate=test.negative_sampling_rate,
            row_weight=test.weight(part),
        ),
        scores,
        replicates=bounds.bootstrap,
        seed=bounds.seed,
        pairs=((CHALLENGER, CHAMPION),),
    )
    request = test.request(part, bounds.latency_candidates)
    latencies = measure_latency([scorer.score for scorer in scorers.values()], request, bounds.latency_requests)
    found = {
        name: ModelFigures(
            evaluation.models[name],
            float(unseen[name][0] / unseen[name][1]) if unseen[name][1] else None,
            sum(file.stat().st_size for file in (models[name] / "data" / DATA).rglob("*") if file.is_file()),
            latency,
        )
        for name, latency in zip(models, latencies, strict=True)
    }
    differences: dict[str, Difference] = {}
    parts: dict[str, list[PartDifference]] = {column: [] for column in bounds.slices} if champion else {}
    if champion is not None:
        pair = f"{CHALLENGER}-{CHAMPION}"
        differences = {name: value for name, value in evaluation.models[CHALLENGER].items() if value.reason}
        differences |= evaluation.comparisons[pair]
        rank = "accuracy" if "accuracy" in evaluation.models[CHAMPION] else "auc"
        for name, (column, value, mask) in masks.items():
            difference = evaluation.slice_comparisons[name][pair].get(rank)
            if difference is not None and difference.low is not None:  # else it holds one label, or one user
                parts[column].append(PartDifference(value, int(mask.sum()), difference))
    return ChampionComparison(found[CHALLENGER], found.get(CHAMPION), differences, parts)
