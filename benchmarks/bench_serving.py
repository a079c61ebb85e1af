"""A request of one history and 100 candidates: milliseconds in process, and on loopback by `ctr-kd serve` and `mlflow models serve`.

    python benchmarks/bench_serving.py --requests 1000

Students are untrained, which costs the same; items, histories, context and statistics have the shape of the Globo hours. Over HTTP the
client sends JSON of raw ids on one kept connection, one request after the other. Processor time, of the thread that answers, is beside the
time on the clock, which other load on the machine stretches.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_scoring import raw_rows, write_log

from ctr_kd.config_students import StudentConfig
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from pipelines.registry.http_server import application, listen, serve
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_package import DATA, load_scorer, save_model
from pipelines.registry.pyfunc_model import PyfuncStudent
from tests.servers import scoring_server

CANDIDATES, WARM_UP = 100, 50


def milliseconds(ask: Callable[[], Any], times: int) -> dict[str, float]:
    """Quantiles of how long one answer takes, after some that are not counted."""
    taken = []
    for _ in range(times + WARM_UP):
        began, used = time.perf_counter(), time.thread_time()
        ask()
        taken.append(((time.perf_counter() - began) * 1000, (time.thread_time() - used) * 1000))
    wall, processor = np.array(taken[WARM_UP:]).T
    found = {f"p{int(q * 100)}": round(float(np.quantile(wall, q)), 3) for q in (0.5, 0.95, 0.99)}
    return found | {f"processor_p{int(q * 100)}": round(float(np.quantile(processor, q)), 3) for q in (0.5, 0.99)}


def one_request(rows: pa.Table) -> pa.Table:
    """The longest history of the rows with as many candidates."""
    longest = int(np.argmax([len(history) for history in rows["history"].to_pylist()]))
    one = rows.slice(longest, 1).take(pa.array(np.zeros(CANDIDATES, np.int64)))
    request = rows.slice(0, CANDIDATES)
    for name in ("history", "history_timestamps"):
        request = request.set_column(request.column_names.index(name), name, one[name])
    return request


def bodies(request: pa.Table) -> dict[str, bytes]:
    """The request as JSON, in the year 2024 since a text before 1990 is no time: its history with every candidate, and once."""
    rows = json.loads(json.dumps(request.to_pylist(), default=lambda value: (value + timedelta(days=20_000)).isoformat()))
    columns = list(rows[0])
    split = {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}
    shared = ("history", "history_timestamps", "timestamp")
    whole = {name: rows[0][name] if name in shared else [row[name] for row in rows] for name in columns}
    layouts = {"a row per candidate": {"dataframe_split": split}, "a row per request": {"dataframe_records": [whole]}}
    return {name: json.dumps(body).encode() for name, body in layouts.items()}


@contextmanager
def own_server(model: Path) -> Iterator[int]:
    """The port of a process that answers as `ctr-kd serve` does."""
    with listen("127.0.0.1", 0) as listening:
        process = multiprocessing.get_context("spawn").Process(target=serve_model, args=(model, listening))
        process.start()
        try:
            yield listening.getsockname()[1]
        finally:
            process.kill()
            process.join()


def serve_model(model: Path, listening: socket.socket) -> None:
    """Answer requests about a saved model."""
    serve(application(PyfuncStudent(str(model / "data" / DATA))), listening)


@contextmanager
def mlflow_server(model: Path) -> Iterator[int]:
    """The port of `mlflow models serve`."""
    server = scoring_server(model)
    server.start()
    try:
        yield server.port
    finally:
        server.kill()


def posted(client: http.client.HTTPConnection, body: bytes) -> bytes:
    """The server's answer to a body of JSON."""
    client.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = client.getresponse()
    answer = response.read()
    if response.status != 200:
        sys.exit(f"the server answered {response.status}: {answer[:500].decode()}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=["pooled", "bilstm"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": f"python benchmarks/bench_serving.py --requests {arguments.requests} --kinds {' '.join(arguments.kinds)}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 1),  # of the machine before: more than its cores stretches the clock
        "candidates": CANDIDATES,
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        assembly = write_log(root, 50_000)
        signature = assembly.signature()
        raw_rows(assembly, root / "raw.parquet")
        request = one_request(pq.read_table(root / "raw.parquet").slice(0, 2000))
        result["history"] = len(request["history"][0].as_py())
        for kind in arguments.kinds:
            torch.manual_seed(0)
            export_student(STUDENTS[kind](signature, StudentConfig(kind=kind)).eval(), signature, assembly, root / f"{kind}_export")
            model = root / kind / "model"
            save_model(root / f"{kind}_export", model, Lineage(), request.slice(0, 2).to_pandas())
            scorer, frame = load_scorer(model), request.to_pandas()
            expected = scorer.score(request)
            found = {
                "in process, Arrow table": milliseconds(lambda: scorer.score(request), arguments.requests),  # noqa: B023
                "in process, pandas frame": milliseconds(lambda: scorer.predict(frame), arguments.requests),  # noqa: B023
            }
            for name, serving in (("ctr-kd serve", own_server), ("mlflow models serve", mlflow_server)):
                with serving(model) as port:
                    client = http.client.HTTPConnection("127.0.0.1", port)
                    for layout, body in bodies(request).items():
                        ask = lambda: posted(client, body)  # noqa: B023, E731
                        answer = np.concatenate([np.atleast_1d(row["score"]) for row in json.loads(ask())["predictions"]])
                        np.testing.assert_allclose(answer, expected, atol=1e-6)
                        figures = milliseconds(ask, arguments.requests)
                        found[f"{name}, {layout}"] = {key: value for key, value in figures.items() if "processor" not in key}
                    client.close()
            result[kind] = found
            for name, figures in found.items():
                print(f"{kind:8} {name:28} " + "  ".join(f"{quantile} {value:8.3f} ms" for quantile, value in figures.items()), flush=True)
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    (Path(__file__).with_name("results") / "serving.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
