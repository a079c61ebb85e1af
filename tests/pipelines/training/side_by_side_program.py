"""The program with so many threads, which trains however few rows side by side: ``python -m ... THREADS ARGUMENTS...``."""

from __future__ import annotations

import sys
from typing import Any

import torch

from pipelines.cli.main import main
from pipelines.training import side_by_side

BEGIN = side_by_side._Child


def begin(*given: Any) -> side_by_side._Child:
    print("began a process", file=sys.stderr)
    return BEGIN(*given)


if __name__ == "__main__":
    threads, *arguments = sys.argv[1:]
    torch.set_num_threads(int(threads))
    side_by_side.LEAST_WORK, side_by_side._Child = 0, begin
    main(arguments)
