"""Scores a file and waits for its end when four parts are finished: ``python -m tests.pipelines.scoring.scoring_program ARGUMENTS...``."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from pipelines.scoring import executors, files
from tests.pipelines.served import Served, configuration


def score_parts(**arguments: Any) -> Any:
    """Says after each part how many are finished."""
    folder, progress = arguments["folder"], arguments["progress"]

    def counted(rows: int) -> None:
        advance(rows)
        print(len(folder.finished), flush=True)
        while len(folder.finished) >= 4:
            time.sleep(0.05)  # a signal may come just before a wait begins: a long one would last

    advance, progress.advance = progress.advance, counted
    return executors.score_parts(**arguments)


if __name__ == "__main__":
    os.setpgid(0, 0)  # a group of its own, as a shell gives one
    resource_tracker._resource_tracker.__init__()  # type: ignore[misc,attr-defined]  # one of its own, as a program has
    workspace, source, target, workers = sys.argv[1:]
    served = Served(Path(workspace), Path(workspace), configuration())
    served.change(score={"workers": int(workers), "batch_rows": 10})
    files.score_parts = score_parts  # type: ignore[assignment]
    files.score_file(served.context(), Path(source), Path(target))
