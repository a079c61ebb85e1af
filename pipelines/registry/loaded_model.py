"""A registered student out of its folder, ready to score, wherever it is opened: here, in a worker process, or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.export.scoring_statistics import EVEN_EDGES, ScoringCounts
from ctr_kd.metrics.drift import ScoreDistribution
from feature_store.config import AssemblyConfig
from feature_store.features.summary import SplitTimes
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import digest_of
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_package import DATA, lineage_of, load_scorer
from pipelines.tasks.answers import Answers, answers_of
from pipelines.workspace.artifacts import ArtifactError, files_of
from pipelines.workspace.stopwatch import Stopwatch

VERSION = "model_version"


@dataclass(frozen=True)
class LoadedModel:
    """A registered student, ready to score.

    Attributes
    ----------
    path : Path
        Folder of the registered model, from which :func:`load_model_folder` opens it again elsewhere.
    directory : Path
        Of the exported student inside it.
    scorer : ClickScorer or TextScorer
        The model's own.
    reference : ScoreDistribution or None
        Of the scores of the validation rows; None where it was registered without.
    edges : float array
        Of the bins in which its scores are counted.
    split : SplitTimes or None
        Windows of the rows that it learned from; None where they are not known.
    read_in_training : mapping of str to Any
        Settings that its rows were made with, by key of the configuration; empty where they are not known.
    """

    path: Path
    directory: Path
    scorer: Any
    reference: ScoreDistribution | None
    edges: NDArray[np.float64]
    split: SplitTimes | None = None
    read_in_training: Mapping[str, Any] = field(default_factory=dict)
    _told: set[Path] = field(default_factory=set, compare=False, repr=False)

    @property
    def reads_item_vectors(self) -> bool:
        """Whether it reads vectors of items, which an item has that is younger than the model."""
        return bool(getattr(self.scorer, "item_vectors", None))

    def tell(self, file: Path) -> None:
        """Take in, once, what a file of Arrow says of items that are younger than the model; nothing where there is none."""
        if file not in self._told and file.exists():
            with pa.memory_map(str(file)) as stream:
                self.scorer.describe(pa.ipc.open_file(stream).read_all())
            self._told.add(file)

    def time_by(self, stopwatch: Stopwatch) -> bool:
        """Have the scorer tell a stopwatch where a part of its work ends; False where it cannot, as that of an earlier release."""
        tells_parts = hasattr(self.scorer, "lap")
        if tells_parts:
            self.scorer.lap = stopwatch.lap
        return tells_parts

    @cached_property
    def answers(self) -> Answers:
        """What it says of rows, and what it needs for that."""
        return answers_of(self.scorer)

    def assembly(self, config: AssemblyConfig) -> AssemblyConfig:
        """How its rows were made: histories and statistics by the settings of its own training, whatever the configuration says today."""
        known = self.read_in_training
        own = {name: known[name] for name in ("history", "statistics", "embeddings", "teacher_state") if name in known}
        if known:  # those of a release that knew no vectors and no states read none
            own = {"embeddings": None, "teacher_state": None} | own
        return AssemblyConfig.model_validate(config.model_dump() | own)

    @property
    def digest(self) -> str:
        """Of everything that decides the scores: the student's files and the code that reads them."""
        code = sorted(self.path.glob("code/*.py"))
        return digest_of([*((name, sha256_of(self.directory / name)) for name in files_of(self.directory)), *map(sha256_of, code)])

    def score(self, rows: pa.Table) -> np.ndarray:
        """Scores of complete rows: (rows,), of texts (rows, classes)."""
        scores: np.ndarray = self.scorer.score(rows)
        return scores

    def answers_to(self, rows: pa.Table, version: str) -> tuple[pa.Table, ScoringCounts]:
        """What a scoring gives for some rows.

        Parameters
        ----------
        rows : pyarrow Table (rows, columns)
            Raw ids and whatever else the model reads.
        version : str
            Of the model, for the column ``model_version``.

        Returns
        -------
        pyarrow Table, ScoringCounts
            What the model says of each row and its version, and what was counted of the rows.
        """
        scores, counts = self.answers.scored(rows, self.edges)
        return pa.table({**self.answers.columns(scores), VERSION: pa.repeat(version, rows.num_rows)}), counts


def completed(rows: pa.Table, further: pa.Table) -> pa.Table:
    """Rows with further columns; one that both have is the further one, in the old place."""
    for name, column in zip(further.column_names, further.columns, strict=True):
        place = rows.schema.get_field_index(name)
        rows = rows.append_column(name, column) if place < 0 else rows.set_column(place, name, column)
    return rows


def load_model_folder(path: Path) -> LoadedModel:
    """Open the folder of a registered model whose digests were checked."""
    lineage = lineage_of(path)
    known = lineage.validation_scores
    try:
        reference = None if known is None else ScoreDistribution.from_dict(known)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: validation_scores of its {Lineage.FILE} is damaged ({error}); register the student again") from None
    edges = EVEN_EDGES if reference is None else reference.edges
    read = dict(lineage.configuration.keys.get("ingest", {}))
    if lineage.statistics is not None:
        read["statistics"] = lineage.statistics
    if lineage.teacher_state is not None:
        read["teacher_state"] = lineage.teacher_state
    return LoadedModel(path, path / "data" / DATA, load_scorer(path), reference, edges, lineage.split, read)
