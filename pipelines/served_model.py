"""The registered student that scores: which one it is, and what is loaded of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.drift import ScoreDistribution
from ctr_kd.scoring_report import EVEN_EDGES, ScoringCounts, count_rows, count_texts
from pipelines.artifacts import ArtifactError
from pipelines.mlflow_server import TrackingError, tracking_uri
from pipelines.peeking import peek
from pipelines.registry import CHAMPION, Registry
from pipelines.runner import RunContext
from pipelines.saved_model import DATA, LINEAGE, VALIDATION_SCORES, lineage_of, load_scorer


def model_uri(run: RunContext) -> str:
    """The model to score with: the one that was named, or the champion."""
    return run.options.get("model") or f"models:/{run.config.name}@{CHAMPION}"


def model_version(run: RunContext) -> str:
    """Version behind the model's URI, as far as it has one.

    Raises
    ------
    TrackingError
        When the alias names no version.
    """
    uri = model_uri(run)
    if not uri.startswith("models:/"):
        return uri
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        return name.rpartition("/")[2]
    version = peek(tracking_uri(run.config, run.workspace), name, alias)
    if version is None:
        raise TrackingError(f"{name} has no {alias}: no student has passed the gate yet; run `ctr-kd register` or `ctr-kd promote`")
    return version


@dataclass(frozen=True)
class ServedModel:
    """A registered student, ready to score.

    Attributes
    ----------
    directory : Path
        Of the exported student.
    scorer : StudentScorer
        The model's own.
    reference : ScoreDistribution or None
        Of the scores of the validation rows; None where it was registered without.
    edges : float array
        Of the bins in which its scores are counted.
    """

    directory: Path
    scorer: Any
    reference: ScoreDistribution | None
    edges: NDArray[np.float64]

    @property
    def has_classes(self) -> bool:
        """Whether it says a class of a text, and not whether an item is clicked."""
        return "classes" in self.scorer.signature

    def nothing(self) -> np.ndarray:
        """The scores of no row."""
        return np.zeros((0, len(self.scorer.classes))) if self.has_classes else np.zeros(0)

    def answer(self, scores: np.ndarray) -> dict[str, pa.Array]:
        """Scores as columns: ``score`` of clicks (rows,); ``label``, ``score`` and a column per class of classes (rows, classes)."""
        if not self.has_classes:
            return {"score": pa.array(scores, pa.float64())}
        best = scores.argmax(axis=1)
        columns = {"label": pa.array(self.scorer.classes, pa.string()).take(pa.array(best))}
        columns["score"] = pa.array(scores[np.arange(len(best)), best], pa.float64())
        return columns | {name: pa.array(scores[:, i], pa.float64()) for i, name in enumerate(self.scorer.columns)}

    def count(self, table: pa.Table, scores: np.ndarray) -> ScoringCounts:
        """What a scoring report counts of these rows."""
        if self.has_classes:
            return count_texts(table, scores.max(axis=1, initial=0.0), self.edges)
        return count_rows(self.scorer, table, scores, self.edges)


def load_model(run: RunContext) -> ServedModel:
    """The registered model, after its digests were checked."""
    path = Registry(tracking_uri(run.config, run.workspace), run.config.name).download(model_uri(run))
    known = lineage_of(path).get(VALIDATION_SCORES)
    try:
        reference = None if known is None else ScoreDistribution.from_dict(known)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: {VALIDATION_SCORES} of its {LINEAGE} is damaged ({error}); register the student again") from None
    return ServedModel(path / "data" / DATA, load_scorer(path), reference, EVEN_EDGES if reference is None else reference.edges)
