"""What is wrong with configured teachers, as far as it can be seen before anything is ingested or trained."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ctr_kd.config_teachers import LoggedScoresConfig, TeacherConfig
from feature_store.plugins import PluginError, load_class
from feature_store.readers.base import data_folder, file_columns, read_partitioned, relative
from feature_store.readers.tabular import TabularReader
from feature_store.tables.contracts import DataError, nearest
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.tracking.client import TrackingError, sqlite_file, tracking_uri
from pipelines.training.teachers.logged_scores import score_columns, score_files, typed_scores
from pipelines.training.teachers.mlflow_model import inputs_of, model_folder
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.context import RunContext

_FILES, _BATCHES = 3, 2  # that are looked at


def teacher_faults(run: RunContext, data: Path | None) -> Iterator[str]:
    """A line for each teacher that cannot teach: no such files or columns, a model that is not there or has no signature, no such class.

    Parameters
    ----------
    run : RunContext
        Of which configuration and workspace are read; nothing is written.
    data : Path, optional
        The data folder.
    """
    for teacher in run.config.distill.teachers:
        try:
            _look_at(teacher, run, data)
        except (DataError, ConfigError, PluginError, ArtifactError, TrackingError) as error:
            yield f"{error}" if teacher.name in str(error) else f"teacher {teacher.name}: {error}"


def _look_at(teacher: TeacherConfig, run: RunContext, data: Path | None) -> None:
    if teacher.plugin is not None:
        load_class("ctr_kd.teachers", teacher.plugin, ("fit", "logits"))
    elif teacher.model is not None:
        database = sqlite_file(teacher.registry or tracking_uri(run.config, run.workspace))
        if teacher.model.startswith(("models:", "runs:")) and database is not None and not database.is_file():
            raise ConfigError(f"{teacher.model}: there is no registry at {database} yet")
        inputs_of(model_folder(teacher, run), f"teacher {teacher.name} ({teacher.model})")
    elif teacher.scores is not None and teacher.scores.path is not None:
        _look_at_files(teacher.name, teacher.scores, data_folder(data, "tabular"))
    elif teacher.scores is not None:
        _look_for_column(teacher.scores, run.config, data)


def _look_at_files(name: str, config: LoggedScoresConfig, data: Path) -> None:
    for path in score_files(config, data)[:_FILES]:
        for batch in islice(read_partitioned(path, relative(path, data), "events", score_columns(config)), _BATCHES):
            typed_scores(name, config, batch)


def _look_for_column(config: LoggedScoresConfig, run: RunConfig, data: Path | None) -> None:
    """Raise DataError where no file of events has the column: one that lacks it is a quiet one, all are a slip."""
    reader = TabularReader(run.source, data)
    kinds, seen = reader.kinds(), dict[str, None]()
    for path in (path for path in reader.files() if path not in kinds):
        seen |= dict.fromkeys(file_columns(path, relative(path, data)))
    for column in (str(config.column), *([] if config.known is None else [config.known])):
        if column not in seen:
            raise DataError(f"no file of events has column {column!r}; {nearest(column, seen)}")
