"""What an executor of Spark does: opens the student that was shipped to it, once per process, and scores parts into their files.

It imports little, and of the project only what is shipped with it: an executor needs numpy, pandas, pyarrow, scipy, onnxruntime, pydantic,
pyyaml.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pyarrow as pa

from pipelines.registry.loaded_model import LoadedModel, load_model_folder
from pipelines.scoring.worker import Answer, handed_over, receive, score_part
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.stopwatch import Stopwatch


@dataclass(frozen=True)
class ScoringTask:
    """The function that ``mapInArrow`` calls; it is sent to the executors with its few fields.

    Attributes
    ----------
    folder : str
        Of the parts. Beside them lies, for each that is asked for, a file of :func:`pipelines.scoring.worker.handed_over`.
    numbers : tuple of int
        Of the parts that are asked for; a row of the frame is a place in it.
    version : str
        Of the model.
    archive : str
        Name of the shipped file that holds the model.
    digest : str
        Of the model; whoever has other bytes scores nothing.
    """

    folder: str
    numbers: tuple[int, ...]
    version: str
    archive: str
    digest: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """An answer of JSON per row of the frame: the counts of a part, or what went wrong with it."""
        pa.set_cpu_count(1)  # a task has one core
        for batch in batches:
            answers = [self._score(self.numbers[place]).to_json() for place in batch["id"].to_pylist()]
            yield pa.RecordBatch.from_pydict({"answer": pa.array(answers, pa.string())})

    def _score(self, number: int) -> Answer:
        part = receive(handed_over(Path(self.folder), number))
        return score_part(partial(_unpacked, self.archive, self.digest), self.version, part, Path(self.folder), Stopwatch())


@cache
def _unpacked(archive: str, digest: str) -> LoadedModel:
    from pyspark import SparkFiles

    here = Path(SparkFiles.getRootDirectory()) / f"{Path(archive).stem}-{os.getpid()}"  # goes when the session does
    return open_shipped(Path(SparkFiles.get(archive)), here, digest)


def open_shipped(archive: Path, folder: Path, digest: str) -> LoadedModel:
    """Unpack a model that was shipped into a folder and open it.

    Raises
    ------
    ArtifactError
        When it is not the model of this digest.
    """
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    model = load_model_folder(folder)
    if model.digest != digest:
        raise ArtifactError(f"{archive.name} is not the model that was sent to this executor: its digest is {model.digest}, not {digest}")
    return model
