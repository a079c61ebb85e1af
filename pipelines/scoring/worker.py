"""What whoever scores a part does with it, in a process of its own or on an executor of Spark: reads its rows, scores them, answers.

A part is handed over as a file of Arrow streams in the folder of the parts: it is not pickled, and nobody holds it until a worker reads it.
The answer is small. Every core has a worker, so this imports little.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa

from ctr_kd.export.scoring_statistics import ScoringCounts
from pipelines.registry.loaded_model import LoadedModel
from pipelines.scoring.parts import FULL, Finished, Part, PartsFolder, stop, write_part
from pipelines.workspace.stopwatch import Costs, Stopwatch

ITEMS = "items.arrow"  # in a folder of parts, where a model is to be told of items that are younger than it
Fault = Literal["data", "disk", "memory", "program"]


@dataclass(frozen=True)
class Answer:
    """What became of a part: it was scored, or a fault kept it from that.

    Attributes
    ----------
    number, first : int
        Of the part, and of its first row.
    counts : dict or None
        Of :meth:`ctr_kd.export.scoring_statistics.ScoringCounts.to_dict`; None at a fault.
    fault : str or None
        Whose fault it is, see :func:`fault_of`.
    text, trace : str
        What the fault says, and where it was raised.
    costs : mapping of str to (float, int)
        See :class:`pipelines.workspace.stopwatch.Stopwatch`; empty where nobody wants to know.
    """

    number: int
    first: int
    counts: dict | None = None
    fault: Fault | None = None
    text: str = ""
    trace: str = ""
    costs: Costs = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def finished(self, where: str, name: str, folder: PartsFolder) -> Finished:
        """Number and counts of the part.

        Parameters
        ----------
        where : str
            Who answered, for messages.
        name : str
            What the rows are, for messages.
        folder : PartsFolder

        Raises
        ------
        DataError, ScoringStopped
            What its fault means for the whole scoring.
        RuntimeError
            With the trace as a note, where the fault is the program's.
        """
        if self.fault == "program":
            error = RuntimeError(f"{where}, {name}, rows from {self.first + 1:,} on: {self.text}")
            error.add_note(self.trace)
            raise error
        if self.fault is not None:
            stop(self.fault, self.text, name, self.first, folder)
        return self.number, ScoringCounts.from_dict(self.counts or {})


def hand_over(part: Part, folder: PartsFolder) -> None:
    """Lay the rows of a part where a worker reads them.

    Raises
    ------
    ScoringStopped
        When the disk is full.
    """
    asked = {"number": part.number, "first": part.first, "features": part.features is not None, "answers_alone": part.answers_alone}
    try:
        with open(handed_over(folder.path, part.number), "wb") as stream:
            stream.write(json.dumps(asked).encode() + b"\n")
            for table in (part.rows, part.features):
                if table is not None:
                    with pa.ipc.new_stream(stream, table.schema) as writer:
                        writer.write_table(table)
    except OSError as error:
        if error.errno in FULL:
            raise folder.full(str(error)) from None
        raise


def receive(file: Path) -> Part:
    """Read a part that was handed over."""
    with open(file, "rb") as stream:
        asked = json.loads(stream.readline())
        rows = pa.ipc.open_stream(stream).read_all()
        features = pa.ipc.open_stream(stream).read_all() if asked["features"] else None
        return Part(asked["number"], asked["first"], rows, features, asked["answers_alone"])


def handed_over(folder: Path, number: int) -> Path:
    """Where the rows of a part lie until they are scored."""
    return folder / f"asked-{number:09d}.arrow"


def write_items(items: pa.Table, folder: Path) -> None:
    """Lay what is said of new items where workers read it."""
    with pa.OSFile(str(folder / ITEMS), "wb") as stream, pa.ipc.new_file(stream, items.schema) as writer:
        writer.write_table(items)


def score_part(load_model_folder: Callable[[], LoadedModel], version: str, part: Part, folder: Path, stopwatch: Stopwatch) -> Answer:
    """Score a part into its file, with a model that is opened once per process."""
    try:
        model = load_model_folder()
        model.tell(folder / ITEMS)
        stopwatch.start()  # again: to open a model is no part of the work
        counts = write_part(model, version, part, folder, stopwatch)
    except Exception as error:
        fault, text = fault_of(error)
        return Answer(part.number, part.first, fault=fault, text=text, trace=traceback.format_exc())
    return Answer(part.number, part.first, counts.to_dict(), costs=stopwatch.costs)


def fault_of(error: BaseException) -> tuple[Fault, str]:
    """Whose fault an exception is: that of the ``data``, of a ``disk`` or a ``memory`` that is full, or of the program; and what it says.

    Examples
    --------
    >>> fault_of(OSError(28, "No space left on device"))
    ('disk', '[Errno 28] No space left on device')
    """
    if isinstance(error, ValueError):  # of the model's own scorer, which cannot know our exceptions
        return "data", str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk", str(error)
    if isinstance(error, MemoryError):  # Arrow's too
        return "memory", str(error)
    return "program", f"{type(error).__name__}: {error}"
