"""The registered student behind HTTP: ``/ping`` and ``/invocations``, as MLflow's scoring server has them, of a model that was checked.

MLflow's own server runs what lies in the model's folder, keeps whatever a client sends, and answers a fault with its traceback. Here a
copy of the model is checked and no other file is run, and a request is bounded before it is looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from feature_store.tables.contracts import DataError
from feature_store.tables.plain_text import plain
from pipelines.errors import ConfigError
from pipelines.registry.model_package import DATA
from pipelines.registry.pyfunc_model import PyfuncStudent
from pipelines.registry.registry import Registry

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MOST_BYTES = 8 << 20  # of a request
MOST_AT_ONCE = 64  # requests that are read or answered; a further one is told to come back
MOST_SECONDS = 30.0  # for a request's body to arrive: one that never ends would keep its place for ever
_JSON = "application/json"


class BadRequest(Exception):
    """A request that is not scored. The message is one line, the status of the answer beside it."""

    def __init__(self, text: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = int(status)


@contextmanager
def checked_student(registry: Registry, uri: str) -> Iterator[tuple[PyfuncStudent, Path]]:
    """A registered student out of a private copy of its files, whose digests were checked, and the folder of the copy; what happens to the
    files later changes nothing.

    Raises
    ------
    ConfigError, TrackingError, ArtifactError
        As :meth:`pipelines.registry.registry.Registry.download`.
    """
    with TemporaryDirectory(prefix="ctr-kd-serve-") as folder:
        copy = registry.download(uri, Path(folder) / "model")
        yield PyfuncStudent(str(copy / "data" / DATA)), copy


Complete = Callable[[pd.DataFrame], pd.DataFrame]


def application(student: PyfuncStudent, complete: Complete = lambda frame: frame) -> Starlette:
    """What answers requests; ``complete`` adds what a frame of them lacks.

    ``GET /ping`` (and ``/health``) is answered with 200, ``POST /invocations`` with ``{"predictions": [...]}`` for a body of JSON with
    ``dataframe_records`` or ``dataframe_split``; what cannot be scored with a status from 400 on and
    ``{"error_code": ..., "message": ...}``.
    """
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    columns = student.scorer.signature["columns"]
    known = frozenset([*columns["required"], *columns["optional"], "user_id"])
    working = asyncio.Semaphore(max(2, os.cpu_count() or 1))  # what a request takes up while it is scored is many times its bytes

    async def ping(request: Request) -> Response:
        return Response("\n", media_type=_JSON)

    async def invocations(request: Request) -> Response:
        try:
            async with asyncio.timeout(MOST_SECONDS):
                body = await _body(request)
            async with working:
                answer = await asyncio.to_thread(answer_to, student, known, body, complete)
        except BadRequest as error:
            return _refusal(str(error), error.status)
        except TimeoutError:
            late = _refusal(f"the request did not arrive whole within {MOST_SECONDS:g} seconds", HTTPStatus.REQUEST_TIMEOUT)
            late.headers["Connection"] = "close"  # what would still come of it is no new request
            return late
        return Response(answer, media_type=_JSON)

    async def failed(request: Request, error: Exception) -> Response:
        return _refusal("the request could not be answered; the server's log says why", HTTPStatus.INTERNAL_SERVER_ERROR)

    routes = [Route("/ping", ping), Route("/health", ping), Route("/invocations", invocations, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={Exception: failed})


def _refusal(text: str, status: int) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error_code": HTTPStatus(status).name, "message": plain(text)[:1000]}, status)


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise BadRequest(f"a request is JSON, with the content type {_JSON}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    too_large = BadRequest(f"a request has at most {MOST_BYTES >> 20} MiB: send it in parts", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 18 or int(announced) > MOST_BYTES:
        raise too_large
    body = bytearray()
    async for piece in request.stream():  # which may hold more than was announced
        body += piece
        if len(body) > MOST_BYTES:
            raise too_large
    return bytes(body)


def answer_to(student: PyfuncStudent, known: frozenset[str], body: bytes, complete: Complete = lambda frame: frame) -> str:
    """The answer to a request's body, as JSON.

    Parameters
    ----------
    student : PyfuncStudent
    known : frozenset of str
        Columns that the student reads; others are passed over, however many there are.
    body : bytes
    complete : callable
        Takes a frame of requests, and gives it with what it lacks.

    Raises
    ------
    BadRequest
        When it cannot be scored.
    """
    from mlflow.exceptions import MlflowException

    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # numbers of thousands of digits among the former
        raise BadRequest("the body is no valid JSON, or holds a number of thousands of digits") from None
    frame = _frame(content, known)
    try:
        answer = student.predict(complete(frame))
    except MlflowException as error:
        raise BadRequest(str(error.message), error.get_http_status_code()) from None
    except DataError as error:
        raise BadRequest(str(error)) from None
    columns = (answer[name].tolist() for name in answer.columns)  # `to_dict` takes as long as the student's graph
    return json.dumps({"predictions": [dict(zip(answer.columns, row, strict=True)) for row in zip(*columns, strict=True)]}, allow_nan=False)


def _frame(content: Any, known: frozenset[str]) -> pd.DataFrame:
    if not isinstance(content, Mapping) or not content.keys() & {"dataframe_records", "dataframe_split"}:
        raise BadRequest('the body is a JSON object with "dataframe_records" (a list of objects) or "dataframe_split" (columns and data)')
    if "dataframe_records" in content:
        records = content["dataframe_records"]
        if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
            raise BadRequest("dataframe_records is a list of objects, one for each row")
        names = [name for name in sorted(known) if any(name in record for record in records)]
        columns = {name: [record.get(name) for record in records] for name in names}
        rows = len(records)
    else:
        split = content["dataframe_split"]
        named, data = (split.get("columns"), split.get("data")) if isinstance(split, Mapping) else (None, None)
        if not isinstance(named, list) or not isinstance(data, list) or len({str(name) for name in named}) < len(named):
            raise BadRequest("dataframe_split has columns (names, each once) and data (a list of rows)")
        if not all(isinstance(row, list) and len(row) == len(named) for row in data):
            raise BadRequest(f"a row of dataframe_split has as many values as there are columns, which are {len(named):,}")
        read = {place: name for place, name in enumerate(named) if isinstance(name, str) and name in known}  # a list has no hash
        columns = {name: [row[place] for row in data] for place, name in read.items()}
        rows = len(data)
    cells = np.empty((rows, len(columns)), object)  # at once: of a series for each column the making takes longer than the scoring
    for place, values in enumerate(columns.values()):
        cells[:, place] = np.fromiter(values, object, rows)
    # Objects as they are: pandas would look for texts, in more time, and fail at one with half of a surrogate pair.
    return pd.DataFrame(cells, columns=list(columns), dtype=object, copy=False)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError where it cannot."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{host}:{port} cannot be listened on ({error}); choose another --host or --port") from None
    # Its connections inherit it; asyncio sets it of those sockets alone that it made itself. Without it the second part of an answer on a
    # kept connection waits until the client has acknowledged the first, which takes 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(app: Starlette, listening: socket.socket) -> None:
    """Answer requests until the process is interrupted or terminated."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=MOST_AT_ONCE, server_header=False)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # which is how it is meant to end
        return
