"""Parts through a model on a Spark session: the driver lays their rows beside the finished parts, executors score them with ``mapInArrow``.

The student and the code that an executor runs are shipped to it. The folder of the parts, in the workspace or beside the output, must be at
the same path on every machine, as it must for ``feature_store.engine: spark``.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from feature_store.config import FeatureStoreConfig
from feature_store.engines.spark_session import EngineFailed, spark_reason, spark_session
from pipelines.registry.loaded_model import LoadedModel
from pipelines.scoring.parts import Finished, Part, PartsFolder
from pipelines.scoring.spark_task import ScoringTask
from pipelines.scoring.worker import Answer, hand_over, handed_over
from pipelines.workspace.artifacts import files_of

_ROOT = Path(__file__).resolve().parents[2]
_SHIPPED = ("pipelines", "ctr_kd", "feature_store")
_AHEAD = 4  # parts per core of the cluster that lie ready at a time


class SparkPool:
    """Scores on the executors of the session that ``feature_store.spark`` describes; use as a context manager."""

    def __init__(self, model: LoadedModel, version: str, folder: PartsFolder, config: FeatureStoreConfig, name: str) -> None:
        self._model, self._version, self._folder, self._config, self._name = model, version, folder, config, name
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._spark = self._open.enter_context(spark_session(self._config))
        model = {name: self._model.path / name for name in files_of(self._model.path)}
        code = {str(path.relative_to(_ROOT)): path for package in _SHIPPED for path in sorted((_ROOT / package).rglob("*.py"))}
        self._archive = self._ship("model", model, code=False)
        self._ship("code", code, code=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def _ship(self, what: str, files: Mapping[str, Path], code: bool) -> str:
        """Have every executor fetch some files; the name under which it finds them, which says what they hold."""
        from pyspark import SparkFiles

        held = packed(files)
        name = f"ctr_kd-{what}-{hashlib.sha256(held).hexdigest()[:16]}.zip"
        context = self._spark.sparkContext
        shipped = Path(SparkFiles.getRootDirectory()) / "shipped" / name  # executors may ask for it as long as the session lives
        if not shipped.exists():
            shipped.parent.mkdir(exist_ok=True)
            shipped.write_bytes(held)
            (context.addPyFile if code else context.addFile)(str(shipped))
        return name

    def score(self, parts: Iterator[Part]) -> Iterator[Finished]:
        """Number and counts of each part, as soon as those that lay ready with it are scored."""
        ahead = _AHEAD * self._spark.sparkContext.defaultParallelism
        while asked := [self._hand_over(part) for part in islice(parts, ahead)]:
            for answer in self._answers(tuple(asked)):
                yield answer.finished("on an executor of Spark", self._name, self._folder)
            for number in asked:
                handed_over(self._folder.path, number).unlink()

    def _hand_over(self, part: Part) -> int:
        hand_over(part, self._folder)
        return part.number

    def _answers(self, asked: tuple[int, ...]) -> list[Answer]:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        task = ScoringTask(str(self._folder.path.absolute()), asked, self._version, self._archive, self._model.digest)
        try:
            frame = self._spark.range(len(asked), numPartitions=len(asked)).mapInArrow(task, "answer string")
            return [Answer.from_json(row.answer) for row in frame.collect()]
        except (PySparkException, Py4JError) as error:
            raise EngineFailed(f"Spark: {spark_reason(error)}; {self._folder.what_is_kept()}") from error


def packed(files: Mapping[str, Path]) -> bytes:
    """A ZIP archive of files by name; equal files give equal bytes, as it holds no times."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, path in files.items():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return held.getvalue()
