"""Calls to a tracking server in their order: what it does not take now waits in a file, and is sent as soon as it answers again."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.tables.files import open_regular
from feature_store.tables.json_files import write_text
from pipelines.tracking.calls import Call, Caller, NotSent, RunKey, UnknownRun, read_call, write_call
from pipelines.tracking.client import TrackingError, connect, is_prepared, prepare, reason_of, unreachable, without_password

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SPOOL = ".tracking_spool.jsonl"
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0  # seconds between two tries, doubling
# The server understood such a call and will never take it; all other failures may pass.
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"}


class OfflineQueue:
    """Sends calls, or keeps them.

    A server that does not answer costs neither the training nor, in the end, the log: the calls wait in a file of the workspace, are tried
    again with growing pauses and at the end of the run, and what is left then is sent by the next run.

    Parameters
    ----------
    uri : str
        Tracking server.
    workspace : Path
    report : callable
        Prints a line.
    """

    def __init__(self, uri: str, workspace: Path, report: Callable[[str], None]) -> None:
        self._uri, self._file, self._report = uri, workspace / SPOOL, report
        self._server = f"MLflow at {without_password(uri)}"
        self._caller = Caller(uri, workspace)
        self._client: MlflowClient | None = None
        self._waiting: deque[Call] = deque(self._left())
        self._silent, self._warned = False, False
        self._pause, self._next_try = _FIRST_PAUSE, 0.0
        self._lock = threading.Lock()  # of all that is said here of calls and server
        self._preparing: threading.Thread | None = None

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def prepare(self) -> None:
        """Let a thread do what takes seconds before the first call; the calls that are made meanwhile are sent by it."""
        if self._client is None and self._preparing is None and not self._silent and not is_prepared(self._uri):
            self._preparing = threading.Thread(target=self._prepare, daemon=True)
            self._preparing.start()

    def send(self, call: Call) -> None:
        """Make a call after those that wait."""
        with self._lock:
            self._waiting.append(call)
            if self._silent:
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write(write_call(call))
            if self._preparing is None:
                self._deliver()

    def deliver(self, now: bool = False) -> None:
        """Send what waits, if it is time to try again; with ``now`` it is."""
        if now and (preparing := self._preparing) is not None:
            preparing.join()
        with self._lock:
            if self._preparing is None:
                self._deliver(now)

    def _prepare(self) -> None:
        with suppress(Exception):  # whoever connects says what is wrong
            prepare(self._uri)
        with self._lock:
            self._preparing = None
            self._deliver()

    def _deliver(self, now: bool = False) -> None:
        if not self._waiting or (self._silent and not now and time.monotonic() < self._next_try):
            return
        before = len(self._waiting)
        try:
            if self._client is None:
                self._client = connect(self._uri)
            while self._waiting:
                self._make(self._client, self._waiting[0])
                self._waiting.popleft()
        except TrackingError as error:
            self._fall_silent(error)
        except Exception as error:  # whatever a tracking server does wrong must not end the training
            self._fall_silent(unreachable(self._uri, error))
        else:
            if self._file.exists():
                self._file.unlink()
                self._report(f"{self._server} took {before:,} calls, those that had waited for it among them")
            self._silent, self._pause = False, _FIRST_PAUSE

    def id_of(self, run: RunKey) -> str | None:
        """Id of a run on the server; None where it is not there."""
        self.deliver(now=True)
        if self._client is None or self._waiting:
            return None
        return self._caller.id_of(self._client, run)

    def _make(self, client: MlflowClient, call: Call) -> None:
        try:
            self._caller.make(client, call)
        except (UnknownRun, NotSent) as error:
            self._leave_out(f"the {call.call} of {call.key}", error)
        except Exception as error:
            if getattr(error, "error_code", None) not in _REFUSALS:
                raise
            self._leave_out(f"the {call.call} of {call.key}", error)

    def _leave_out(self, what: str, error: Exception) -> None:
        self._report(f"warning: {self._server} does not take {what}: {reason_of(error)}")

    def _fall_silent(self, error: TrackingError) -> None:
        if not self._warned:
            self._report(f"warning: {error}; the run goes on, and what it logs waits in {self._file} until a try or the next run succeeds")
        self._client, self._warned, self._silent = None, True, True
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        write_text(self._file, "".join(map(write_call, self._waiting)))

    def _left(self) -> list[Call]:
        """What an earlier run could not send. Of a line that a kill cut short, and of what follows, nothing is known.

        The file may come from elsewhere, with its workspace: it says what is told of a run, never where to, and of files only names.
        """
        calls: list[Call] = []
        if self._file.exists() or self._file.is_symlink():
            with open_regular(self._file) as stream:
                lines = stream.read().decode("utf-8", errors="replace").splitlines()
            for line in lines:
                try:
                    calls.append(read_call(line))
                except ValueError as error:
                    if not _is_json(line):
                        break
                    self._leave_out(f"a line of {self._file}", error)
        return calls


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
