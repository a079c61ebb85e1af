"""A process that scores parts, ``python -m pipelines.scoring.worker TASK``.

Started by :mod:`pipelines.scoring.local_executor`, never by hand.

TASK is JSON: the folder of the model, its version, the folder of the parts. The process says ``{"ready": true}`` on standard output.
Then it answers every part on its standard input, a line of JSON and one or two Arrow streams, with a line: ``{"number": 3, "counts": ...}``
or, at a fault, ``{"number": 3, "fault": ..., "text": ...}``. It ends when its input does. Every core has one, so it imports little.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from pipelines.registry.loaded_model import open_model
from pipelines.scoring.parts import FULL, Part, write_part


def send(stream: BinaryIO, part: Part) -> None:
    """Write a part to a worker's input."""
    asked = {"number": part.number, "first": part.first, "features": part.features is not None}
    stream.write(json.dumps(asked).encode() + b"\n")
    for table in (part.rows, part.features):
        if table is not None:
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
    stream.flush()


def receive(stream: BinaryIO) -> Part | None:
    """Read a part that :func:`send` wrote; None at the end of the input."""
    line = stream.readline()
    if not line:
        return None
    asked = json.loads(line)
    rows = pa.ipc.open_stream(stream).read_all()
    return Part(asked["number"], asked["first"], rows, pa.ipc.open_stream(stream).read_all() if asked["features"] else None)


def fault_of(error: BaseException) -> tuple[str, str]:
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


def serve(task: Mapping[str, str], source: BinaryIO, target: BinaryIO) -> None:
    """Answer until the input ends, or until the process that asks is gone: then nobody waits for another part."""
    parent = os.getppid()

    def say(answer: dict[str, Any]) -> None:
        target.write(json.dumps(answer).encode() + b"\n")
        target.flush()

    model, folder = open_model(Path(task["model"])), Path(task["folder"])
    say({"ready": True})
    while (part := receive(source)) is not None and os.getppid() == parent:
        try:
            counts = write_part(model, task["version"], part, folder)
        except Exception as error:
            fault, text = fault_of(error)
            say({"number": part.number, "fault": fault, "text": text, "trace": traceback.format_exc()})
        else:
            say({"number": part.number, "counts": counts.to_dict()})
        del part  # or memory would hold it beside the next one


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the main one ends its workers
    pa.set_cpu_count(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    serve(json.loads(sys.argv[1]), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
