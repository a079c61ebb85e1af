"""A model that MLflow loads (pyfunc) as a teacher: of any library, made by anybody, asked with the raw columns that its signature names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.config_teachers import TeacherConfig
from feature_store.tables.contracts import DataError, nearest
from feature_store.tables.files import sha256_of
from feature_store.tables.folders import regular_files
from feature_store.tables.json_files import digest_of
from pipelines.errors import ConfigError
from pipelines.registry.registry import Registry
from pipelines.tasks import Rows, task_of
from pipelines.tasks.logits import CERTAIN, logits_of
from pipelines.tracking.client import quieten_mlflow, reason_of, tracking_uri
from pipelines.training.facts import TeacherFacts
from pipelines.training.teachers.answers import checked_answer
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.context import RunContext, StageContext

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_BATCH = 50_000  # rows that a model is asked about at a time
_SCORE = "score"  # the column of a frame that is taken where no other is named


class ModelTeacher:
    """See :class:`pipelines.training.teachers.teacher.Teacher`.

    Loading it runs code of whoever made it, which the configuration has allowed by ``trust: true``.

    Parameters
    ----------
    config : TeacherConfig
    context : StageContext
    rows : Rows
        As teachers see them.

    Raises
    ------
    ConfigError
        When the registry has no such model.
    DataError
        When it has no signature, or that asks for a column that the log has not; when it cannot be loaded or asked, or what it says is no
        probability of each row.
    """

    trained = True

    def __init__(self, config: TeacherConfig, context: StageContext, rows: Rows) -> None:
        self.name, self._config, self._rows = config.name, config, rows
        self._folder = model_folder(config, context.run)
        self.digest = digest_of([digest_of_model(self._folder), config.output, config.scale])[:32]
        self._outputs = task_of(context.config).assembly(context.inputs["ingest"], "teacher").signature().outputs
        self._model: Any = None
        self._asked, self._seconds = 0, 0.0

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """Load it: it was trained elsewhere."""
        self._model = _load(self._folder, self._said)

    def stored(self, rows: pa.Table) -> None:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """The columns that its signature names."""
        known = self._rows.asked(rows)
        columns = {}
        for name, required in inputs_of(self._folder, self._said).items():
            if name in known.column_names:
                columns[name] = known[name]
            elif required:
                hint = nearest(name, known.column_names)
                raise DataError(f"{self._said} asks for column {name!r}, which the log has not; {hint}")
        return pa.table(columns)

    def logits(self, rows: pa.Table) -> NDArray:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        began, parts = time.perf_counter(), []
        for begin in range(0, rows.num_rows, _BATCH):
            batch = rows.slice(begin, _BATCH)
            read, row_id = self.reads(batch), batch["row_id"].to_numpy()
            try:
                answer = self._model.predict(_typed(read, self._model))
            except Exception as error:  # of the model's own code, or of a column that is not what its signature says
                raise DataError(f"{self._said} cannot be asked: {reason_of(error)}") from error
            score = checked_answer(_column(answer, self._config, self._said), row_id, self._said, self._outputs, of_classes=True)
            parts.append(self._on_its_scale(score))
        self._asked, self._seconds = self._asked + rows.num_rows, self._seconds + time.perf_counter() - began
        return np.concatenate(parts)

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return TeacherFacts(kind="model", digest=self.digest, rows_per_second=self._asked / self._seconds if self._seconds else None)

    @property
    def _said(self) -> str:
        return f"teacher {self.name} ({self._config.model})"

    def _on_its_scale(self, score: NDArray) -> NDArray:
        if self._config.scale == "probability":
            strange = score[(score < 0) | (score > 1)]
            if len(strange):
                raise DataError(f"{self._said} says {strange[0]:g}, which is no probability: set scale: logit if these are logits")
        if score.shape[1] == 1:
            return logits_of(score, self._config.scale)
        return np.log(score.clip(CERTAIN)) if self._config.scale == "probability" else score


def model_folder(config: TeacherConfig, run: RunContext) -> Path:
    """Local folder of a model, whose files nobody has vouched for.

    Raises
    ------
    ConfigError
        When there is none.
    """
    uri = str(config.model)
    quieten_mlflow()
    if ":/" in uri:
        folder, _ = Registry(config.registry or tracking_uri(run.config, run.workspace), "").fetch(uri)
    elif not Path(uri).is_dir():
        raise ConfigError(f"distill.teachers: {config.name}: {uri}: no such folder; a registered model is models:/NAME@ALIAS")
    else:
        folder = Path(uri)
    if not (folder / "MLmodel").is_file():
        raise ConfigError(f"distill.teachers: {config.name}: {uri} is no MLflow model: it has no file MLmodel")
    return folder


def digest_of_model(folder: Path) -> str:
    """Digest of the names and bytes of a model's files."""
    return digest_of([[name, sha256_of(folder / name)] for name in sorted(regular_files(folder))])


def _load(folder: Path, said: str) -> Any:
    from mlflow import pyfunc

    try:
        return pyfunc.load_model(str(folder))
    except Exception as error:  # of the libraries that it needs, or of its own code
        missing = f": install the package of {error.name}" if isinstance(error, ModuleNotFoundError) else ""
        raise ArtifactError(f"{said} cannot be loaded ({reason_of(error)}){missing}") from error


def inputs_of(folder: Path, said: str) -> dict[str, bool]:
    """Names of the columns that a model reads, and whether each is required."""
    from mlflow.models import Model

    try:
        signature = Model.load(str(folder)).signature
    except Exception as error:  # of a file that is none, or of another release
        raise ArtifactError(f"{said} cannot be read ({reason_of(error)})") from error
    if signature is None or signature.inputs is None or not signature.inputs.has_input_names():
        raise DataError(f"{said} has no signature with names of columns: log it with one (mlflow.models.infer_signature)")
    return {column.name: column.required for column in signature.inputs.inputs}


def _typed(rows: pa.Table, model: Any) -> pd.DataFrame:
    """Rows as a frame whose columns have the types of the signature, as far as a cast makes them."""
    from mlflow.types import DataType

    wanted = {column.name: column.type for column in model.metadata.signature.inputs.inputs}
    arrow = {
        DataType.double: pa.float64(),
        DataType.float: pa.float32(),
        DataType.long: pa.int64(),
        DataType.integer: pa.int32(),
        DataType.string: pa.string(),
        DataType.boolean: pa.bool_(),
    }
    for place, name in enumerate(rows.column_names):
        kind = arrow.get(wanted[name]) if isinstance(wanted[name], DataType) else None
        if kind is not None:
            rows = rows.set_column(place, name, pc.cast(rows[name], kind, safe=False))
    return rows.to_pandas()


def _column(answer: Any, config: TeacherConfig, said: str) -> Any:
    """What of a model's answer is the score of each row: (rows,), or of classes (rows, classes)."""
    names = list(getattr(answer, "columns", []))
    if config.output is not None:
        if config.output not in names:
            known = f"columns {', '.join(map(str, names))}" if names else f"a {type(answer).__name__}"
            raise DataError(f"{said} answers no column {config.output!r} but {known}; correct output")
        return answer[config.output]
    if _SCORE in names:
        return answer[_SCORE]
    return answer.to_numpy() if hasattr(answer, "to_numpy") else answer
