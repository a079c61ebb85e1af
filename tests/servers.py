"""Real servers on loopback, for tests that must see one answer, go away and come back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tests.programs import HANGS, Program


def reserve_port() -> socket.socket:
    """A socket bound to a port of 127.0.0.1 that nobody listens on.

    While it is open no other program is given the port, but a server may listen there, since it reuses addresses as all servers do.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def comes_up(runs: Callable[[], bool], answers: Callable[[], bool]) -> bool:
    """Wait until a program answers; False where it ends before."""
    began = time.monotonic()
    while not answers():
        if not runs():
            return False
        assert time.monotonic() - began < HANGS, "the server runs and does not answer"
        time.sleep(0.1)
    return True


class Server:
    """A program of MLflow's that answers on a port of 127.0.0.1.

    Parameters
    ----------
    arguments : sequence of str
        Of ``mlflow``; host and port are added.
    health : str
        Path that answers when it is ready.
    """

    def __init__(self, arguments: list[str], health: str) -> None:
        self._arguments, self._health = arguments, health
        self._held = reserve_port()
        self.port = self._held.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._program: Program | None = None

    def start(self) -> None:
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        self._program = Program(*self._arguments, *where, module="tests.server_program")
        if not comes_up(self._program.process.is_alive, self.answers):
            raise RuntimeError(f"the server did not start: {self._program.end().err[-2000:]}")

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}{self._health}", timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """As a crash would end it, with all processes that it started."""
        program, self._program = self._program, None
        if program is not None and program.process.pid is not None:
            os.killpg(program.process.pid, signal.SIGKILL)
            program.end()


def tracking_server(folder: Path, database: Path) -> Server:
    """A tracking server and registry over a copy of an empty database."""
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts")]
    return Server(["server", *store, "--workers", "1"], "/health")


def scoring_server(model: Path) -> Server:
    """`mlflow models serve` of a model in this environment."""
    return Server(["models", "serve", "--model-uri", str(model), "--env-manager", "local"], "/ping")


class Database:
    """A PostgreSQL of one's own on a port of 127.0.0.1, with the interface of :class:`Server`.

    Parameters
    ----------
    programs : Path
        Folder of ``initdb`` and ``postgres``, as :func:`postgresql` finds it.
    folder : Path
        For its data. Where this process is root, who may not run a database, user ``nobody`` does, and must reach the folder.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._held = reserve_port()
        self.port = self._held.getsockname()[1]
        self.uri = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "-U", "tester", "-A", "trust", "--no-sync").wait(HANGS)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        with open(self._folder / "log", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, user=self._user, start_new_session=True)

    def start(self) -> None:
        self._process = self._run("postgres", "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder))
        process = self._process
        if not comes_up(lambda: process.poll() is None, self.answers):
            self.kill()
            raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.uri).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """As a crash would end it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # at once, its children with it
            process.wait(HANGS)


def postgresql() -> Path | None:
    """Folder of PostgreSQL's programs; None where there are none."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in places if (place / "postgres").exists()), None)
