"""The program, killed from within: ``python -m tests.pipelines.killed_program SIGN OPERATIONS ARGUMENTS...``.

A kill from outside comes when the machine has time for it, maybe after the end; this one comes at the same place each time.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

from pipelines.cli.main import main

FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove"}


class Countdown:
    """Ends the process by SIGKILL so many file operations after it began."""

    def __init__(self, operations: int) -> None:
        self.left, self.began = operations, False

    def begin(self) -> None:
        self.began = True
        self.step()

    def step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """As an audit hook."""
        if self.began and event in FILE_OPERATIONS:
            self.step()


class Said(io.TextIOWrapper):
    """Standard error that begins the countdown when it is given the sign."""

    def __init__(self, sign: str, countdown: Countdown) -> None:
        super().__init__(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
        self.sign, self.countdown = sign, countdown

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.sign in text and not self.countdown.began:
            self.flush()
            self.countdown.begin()
        return written


if __name__ == "__main__":
    sign, operations, *arguments = sys.argv[1:]
    countdown = Countdown(int(operations))
    sys.stderr = Said(sign, countdown)
    sys.addaudithook(countdown)
    main(arguments)
