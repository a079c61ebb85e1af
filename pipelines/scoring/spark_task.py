"""What an executor of Spark does: opens the student that was shipped to it, once per process, and scores parts into their files.

It imports little, and of the project only what is shipped with it: an executor needs numpy, pandas, pyarrow, onnxruntime, pydantic, pyyaml.
"""

from __future__ import annotations

import json
import os
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.registry.loaded_model import OpenedModel, open_model
from pipelines.scoring.parts import write_part
from pipelines.scoring.worker import fault_of, receive
from pipelines.workspace.artifacts import ArtifactError


@dataclass(frozen=True)
class ScoringTask:
    """The function that ``mapInArrow`` calls; it is sent to the executors with its few fields.

    Attributes
    ----------
    folder : str
        Of the parts. Beside them lies, for each that is asked for, a file of :func:`asked_file`.
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
            answers = [json.dumps(self._score(self.numbers[place])) for place in batch["id"].to_pylist()]
            yield pa.RecordBatch.from_pydict({"answer": pa.array(answers, pa.string())})

    def _score(self, number: int) -> dict[str, Any]:
        with open(asked_file(Path(self.folder), number), "rb") as stream:
            part = receive(stream)
        if part is None:
            raise ArtifactError(f"{self.folder}: part {number} holds no rows; run again")
        try:
            counts = write_part(_model(self.archive, self.digest), self.version, part, Path(self.folder))
        except Exception as error:
            fault, text = fault_of(error)
            return {"number": number, "first": part.first, "fault": fault, "text": text, "trace": traceback.format_exc()}
        return {"number": number, "counts": counts.to_dict()}


def asked_file(folder: Path, number: int) -> Path:
    """Where the rows of a part lie until they are scored."""
    return folder / f"asked-{number:09d}.arrow"


@cache
def _model(archive: str, digest: str) -> OpenedModel:
    from pyspark import SparkFiles

    here = Path(SparkFiles.getRootDirectory()) / f"{Path(archive).stem}-{os.getpid()}"  # goes when the session does
    return open_shipped(Path(SparkFiles.get(archive)), here, digest)


def open_shipped(archive: Path, folder: Path, digest: str) -> OpenedModel:
    """Unpack a model that was shipped into a folder and open it.

    Raises
    ------
    ArtifactError
        When it is not the model of this digest.
    """
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    model = open_model(folder)
    if model.digest != digest:
        raise ArtifactError(f"{archive.name} is not the model that was sent to this executor: its digest is {model.digest}, not {digest}")
    return model
