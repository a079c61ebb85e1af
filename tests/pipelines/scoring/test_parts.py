"""Scoring in parts: the same rows whatever their size and however many workers, and nothing that goes wrong costs a finished part."""

from __future__ import annotations

import ast
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.tables.contracts import DataError
from pipelines.errors import ConfigError, WorkspaceLocked
from pipelines.exit_codes import exit_code, explain
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring import files, local_executor
from pipelines.scoring import parts as parts_module
from pipelines.scoring.files import _tables, check_requests_stand_together, file_parts, open_parquet, score_file
from pipelines.scoring.partitions import failed_attempts, parts_path
from pipelines.scoring.parts import Part, PartsFolder, ScoringStopped, in_parts
from pipelines.scoring.worker import Answer, hand_over, handed_over, receive
from pipelines.workspace.lock import workspace_lock
from pipelines.workspace.stopwatch import Stopwatch
from tests.pipelines.served import IN_PARTS, ITEMS, Served, probability
from tests.programs import HANGS, Program, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
MOMENT = datetime(2024, 1, 3, 10, tzinfo=UTC)


def rows(count: int, seed: int = 0) -> pa.Table:
    """Rows of which the histories are given and the statistic is not."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "note": pa.array([f"row {n}" for n in range(count)]),
        "kind": pa.array(rng.choice(["a", "b"], count)).dictionary_encode(),
        "item_id": rng.choice(ITEMS, count),
        "timestamp": [MOMENT + timedelta(minutes=int(n)) for n in rng.integers(0, 600, count)],
        "user_id": [f"u{n}" for n in rng.integers(0, 9, count)],
        "history": [rng.choice(ITEMS, rng.integers(0, 4)).tolist() for _ in range(count)],
    }
    return pa.table(columns, schema=pa.schema([(name, _type(name, values)) for name, values in columns.items()]))


def _type(name: str, values: Any) -> pa.DataType:
    known = {"timestamp": pa.timestamp("us", "UTC"), "history": pa.list_(pa.int64()), "item_id": pa.int64(), "user_id": pa.string()}
    return known.get(name) or values.type


def score(served: Served, source: Path, target: Path, **keys: Any) -> pa.Table:
    served.change(score=keys)
    score_file(served.context(), source, target)
    return pq.read_table(target)


@pytest.fixture
def rows_to_join(served: Served, tmp_path: Path) -> Path:
    """A file of 103 rows to which the store joins the statistic."""
    served.ingest()
    pq.write_table(rows(103), tmp_path / "in.parquet", row_group_size=40)
    return tmp_path / "in.parquet"


@pytest.fixture
def whole_rows(tmp_path: Path) -> Path:
    """A file of 103 rows that lack nothing, which takes a fraction of the time."""
    table = rows(103).append_column("item_age", pa.array(np.arange(103.0)))
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=40)
    return tmp_path / "in.parquet"


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# --- the same rows, however they are cut and whoever scores them -----------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 5) | st.just(30), max_size=12),
    cuts=st.lists(st.integers(0, 9), max_size=8),
    size=st.integers(1, 12),
)
def test_whole_requests_come_in_one_part(sizes: list[int], cuts: list[int], size: int) -> None:
    """However the tables were cut; a part is no larger than asked for unless it is one request."""
    request = np.repeat(np.arange(len(sizes)), sizes)
    table = pa.table({"request_id": [str(n) for n in request], "timestamp": request * 7, "n": np.arange(len(request))})
    tables, begin = [table.slice(0, 0)], 0
    for cut in cuts:
        tables.append(table.slice(begin, cut))
        begin += cut
    parts = list(in_parts(iter([*tables, table.slice(begin)]), size, whole_requests=True))
    of_one_table = list(in_parts(iter([table]), size, whole_requests=True))
    assert [part.first for part in parts] == [part.first for part in of_one_table]
    assert pa.concat_tables([part.rows for part in parts])["n"].to_pylist() == list(range(len(request)))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.first for part in parts] == [sum(before.rows.num_rows for before in parts[:n]) for n in range(len(parts))]
    requests = [set(part.rows["request_id"].to_pylist()) for part in parts]
    assert sum(map(len, requests)) == len(sizes)
    assert all(part.rows.num_rows <= size or len(within) == 1 for part, within in zip(parts[:-1], requests, strict=False))


def test_workers_and_this_process_write_the_same_bytes(served: Served, rows_to_join: Path, tmp_path: Path) -> None:
    found = {}
    for workers in (1, 3):
        table = score(served, rows_to_join, tmp_path / f"{workers}.parquet", workers=workers, batch_rows=20)
        found[workers] = (tmp_path / f"{workers}.parquet").read_bytes()
        report = json.loads((tmp_path / f"{workers}.scoring.json").read_text())
        assert (report["rows"], report["resumed_rows"], sum(report["scores"]["rows"])) == (103, 0, 103)
    assert found[1] == found[3]
    assert table.drop_columns(["score", "model_version"]) == rows(103)
    np.testing.assert_allclose(table["score"], [probability(item) for item in table["item_id"].to_pylist()], atol=1e-6)
    assert leftovers(tmp_path) == []


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 12), size=st.integers(1, 14), group=st.integers(1, 14), seed=st.integers(0, 9))
def test_parts_of_any_size_give_what_one_part_gives(
    served: Served, rows_to_join: Path, tmp_path: Path, count: int, size: int, group: int, seed: int
) -> None:
    source = tmp_path / "some.parquet"
    pq.write_table(rows(count, seed), source, row_group_size=group)
    whole = score(served, source, tmp_path / "whole.parquet", batch_rows=1000)
    assert whole.drop_columns(["score", "model_version"]) == rows(count, seed)
    assert score(served, source, tmp_path / "parts.parquet", batch_rows=size) == whole
    if count:
        pq.write_table(rows(count, seed).slice(count // 2, 1), source)
        assert score(served, source, tmp_path / "one.parquet") == whole.slice(count // 2, 1)  # one row is many rows


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8), size=st.integers(1, 12))
def test_tables_are_cut_into_parts_of_one_size(lengths: list[int], size: int) -> None:
    values = np.arange(sum(lengths))
    ends = np.cumsum([0, *lengths])
    tables = [pa.table({"n": values[begin:end]}) for begin, end in pairwise(ends)]
    parts = list(in_parts(iter(tables), size))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.first for part in parts] == [size * number for number in range(len(parts))]
    assert all(part.rows.num_rows == size for part in parts[:-1])
    assert np.concatenate([part.rows["n"].to_numpy() for part in parts]).tolist() == values.tolist()


@given(groups=st.integers(1, 12), size=st.integers(1, 12), finished=st.sets(st.integers(0, 6)))
def test_a_file_is_read_from_its_first_unfinished_part_on(
    tmp_path_factory: pytest.TempPathFactory, groups: int, size: int, finished: set[int]
) -> None:
    path = tmp_path_factory.mktemp("file") / "rows.parquet"
    pq.write_table(pa.table({"n": np.arange(30)}), path, row_group_size=groups)

    class Nothing:
        def compares_candidates(self, names: list[str]) -> bool:
            return False

        def features(self, table: pa.Table) -> None:
            return None

    total = -(-30 // size)
    finished = {number for number in finished if number < total}
    found = {part.number: part for part in file_parts(pq.ParquetFile(path), path, Nothing(), size, finished)}  # type: ignore[arg-type]
    assert set(range(total)) - finished <= found.keys() <= set(range(total))
    for number, part in found.items():
        assert part.rows["n"].to_pylist() == list(range(30))[number * size : number * size + size]


def test_a_part_that_is_handed_over_arrives(tmp_path: Path) -> None:
    folder, table = PartsFolder(tmp_path, {}), rows(5)
    for features in (None, table.select(["history"]), table.select([])):
        hand_over(Part(3, 15, table, features), folder)
        part = receive(handed_over(folder.path, 3))
        assert (part.number, part.first, part.rows) == (3, 15, table)
        assert (part.features is None) == (features is None)
        assert part.features is None or part.features.column_names == features.column_names  # type: ignore[union-attr]


def test_a_date_is_scored_by_workers_as_without_them(served: Served) -> None:
    served.change(score=IN_PARTS)
    before = served.run()[1].joinpath("scores.parquet").read_bytes()
    served.change(score={"workers": 2})
    runner_made, path = served.run(model="models:/demo/2")
    assert runner_made == ("score",)
    assert served.run()[1].joinpath("scores.parquet").read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["date=2024-01-03"]


# --- what goes wrong -------------------------------------------------------------------------------------------------


def start(served: Served, source: Path, target: Path, workers: int) -> Program:
    """A run in a process of its own, which waits for its end when four parts are finished."""
    arguments = [str(served.workspace), str(source), str(target), str(workers)]
    program = Program(*arguments, module="tests.pipelines.scoring.scoring_program")
    while "4\n" not in program.said():
        assert program.process.is_alive(), program.end().err
        time.sleep(0.02)
    return program


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    served: Served, rows_to_join: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    score(served, rows_to_join, tmp_path / "whole.parquet", workers=1, batch_rows=10)
    target = tmp_path / "out.parquet"
    program = start(served, rows_to_join, target, workers)
    with pytest.raises(WorkspaceLocked, match=f"process {program.process.pid} .*choose another --output"):  # a second run comes too early
        score_file(served.context(), rows_to_join, target)
    program.process.kill()
    assert program.end().code == -signal.SIGKILL
    assert not target.exists()
    assert leftovers(tmp_path) == [".out.parquet.parts"]
    written = count_parts(monkeypatch)
    score(served, rows_to_join, target, workers=1, batch_rows=10)
    assert len(written) <= 7  # of eleven
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    report, whole = (json.loads((tmp_path / f"{name}.scoring.json").read_text()) for name in ("out", "whole"))
    assert report["resumed_rows"] == 103 - sum(written)
    assert {**report["scores"], "mean": None} == {**whole["scores"], "mean": None}
    assert report["scores"]["mean"] == pytest.approx(whole["scores"]["mean"])
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_profile_tells_what_each_part_cost(served: Served, whole_rows: Path, tmp_path: Path, workers: int) -> None:
    plain = score(served, whole_rows, tmp_path / "plain.parquet", batch_rows=20, workers=workers)
    run = served.context()
    run.stopwatch = Stopwatch(wanted=True)
    score_file(run, whole_rows, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(plain)
    assert run.stopwatch.rows == 103 and run.stopwatch.cores == workers
    assert {"reading", "mapping", "gathering", "head", "counting", "writing"} == run.stopwatch.costs.keys()


def test_what_is_joined_is_told_apart(served: Served, rows_to_join: Path, tmp_path: Path) -> None:
    run = served.context()
    run.stopwatch = Stopwatch(wanted=True)
    score_file(run, rows_to_join, tmp_path / "out.parquet")
    assert run.stopwatch.costs["joining"][1] > 0


def test_a_profile_on_spark_is_refused(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    served.change(score={"engine": "spark"})
    run = served.context()
    run.stopwatch = Stopwatch(wanted=True)
    with pytest.raises(ConfigError, match="--profile tells of processes of this machine"):
        score_file(run, whole_rows, tmp_path / "out.parquet")
    assert leftovers(tmp_path) == []


def count_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each part that is scored from now on."""
    written: list[int] = []
    write = parts_module.write_part

    def counted(model: Any, version: str, part: Part, folder: Path, stopwatch: Stopwatch) -> Any:
        written.append(part.rows.num_rows)
        return write(model, version, part, folder, stopwatch)

    monkeypatch.setattr(local_executor, "write_part", counted)
    return written


@contextmanager
def stopping_after(monkeypatch: pytest.MonkeyPatch, parts: int, error: Exception) -> Iterator[None]:
    """Scoring in this process fails when so many parts are written."""
    with monkeypatch.context() as patch:
        written: list[int] = []
        write = pq.write_table

        def failing(table: pa.Table, where: Any, **options: Any) -> None:
            if len(written) >= parts:
                Path(where).write_bytes(b"half")
                raise error
            written.append(1)
            write(table, where, **options)

        patch.setattr(parts_module.pq, "write_table", failing)
        yield


@pytest.mark.parametrize(
    "change", ["input", "model", "rows", "store", "nothing", "damage", "count"], ids=lambda change: f"{change} changed meanwhile"
)
def test_parts_are_taken_over_by_the_same_scoring_only(
    served: Served, rows_to_join: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    served.change(score={"batch_rows": 40})
    with stopping_after(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device")), pytest.raises(ScoringStopped):
        score_file(served.context(), rows_to_join, tmp_path / "out.parquet")
    if change == "input":
        pq.write_table(rows(103, seed=1), rows_to_join, row_group_size=40)
    elif change == "model":
        served.registry().promote("2")
    elif change == "rows":
        served.change(score={"batch_rows": 41})
    elif change == "store":
        served.change(statistics={"windows": ["2h"]})
    elif change == "damage":
        part = next((tmp_path / ".out.parquet.parts").rglob("part-*1.parquet"))
        part.write_bytes(part.read_bytes()[:-1] + b"?")
    elif change == "count":
        part = next((tmp_path / ".out.parquet.parts").rglob("part-*1.json"))
        part.write_text(part.read_text().replace('"rows": 40', '"rows": 41'))
    written = count_parts(monkeypatch)
    score_file(served.context(), rows_to_join, tmp_path / "out.parquet")
    assert sum(written) == {"nothing": 23, "damage": 63, "count": 63}.get(change, 103)
    found = pq.read_table(tmp_path / "out.parquet")
    version = 2 if change == "model" else 1
    np.testing.assert_allclose(found["score"], [probability(item, version) for item in found["item_id"].to_pylist()], atol=1e-6)
    assert leftovers(tmp_path) == []


def test_a_disk_that_is_full_leaves_finished_parts_and_nothing_half(
    served: Served, rows_to_join: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.parquet"
    served.change(score={"batch_rows": 20})
    with stopping_after(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device")), pytest.raises(ScoringStopped) as error:
        score_file(served.context(), rows_to_join, target)
    assert f"no space left on the disk of {tmp_path}" in explain(error.value)
    assert "2 finished parts stay" in explain(error.value)
    assert exit_code(error.value) == 1
    kept = sorted(path.name for path in (tmp_path / ".out.parquet.parts").rglob("*") if path.is_file() and path.name != ".lock")
    assert kept == ["part-000000000.json", "part-000000000.parquet", "part-000000001.json", "part-000000001.parquet"]

    def full(sources: Any, whole: Path) -> int:
        whole.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.scoring.parts.concatenate", full)
        with pytest.raises(ScoringStopped, match="6 finished parts stay"):
            score_file(served.context(), rows_to_join, target)
    assert not target.exists()
    assert not list((tmp_path / ".out.parquet.parts").rglob("out*"))
    assert not count_parts(monkeypatch)
    score_file(served.context(), rows_to_join, target)
    assert pq.read_metadata(target).num_rows == 103


def test_a_disk_that_is_full_under_a_worker(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the worker inherits it."""
    wide = pa.concat_tables([pq.read_table(whole_rows)] * 4).append_column(
        "noise", pa.array(np.random.default_rng(0).bytes(412 * 3000)[n * 3000 : (n + 1) * 3000] for n in range(412))
    )
    pq.write_table(wide, whole_rows)
    served.change(score={"batch_rows": 100, "workers": 2})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(ScoringStopped, match=r"no space left .* no part was finished yet"):
            score_file(served.context(), whole_rows, tmp_path / "out.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert leftovers(tmp_path) == []


def test_a_worker_that_is_killed_says_so_and_finished_parts_stay(
    served: Served, whole_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.change(score={"batch_rows": 10, "workers": 2})
    workers: list[BaseProcess] = []
    finished = local_executor.WorkerPool._finished

    def killing(self: local_executor.WorkerPool) -> Iterator[Any]:
        if len(self._folder.finished) >= 3 and not workers:
            workers.extend(self._workers)
            workers[0].kill()
        yield from finished(self)

    with monkeypatch.context() as patch:
        patch.setattr(local_executor.WorkerPool, "_finished", killing)
        with pytest.raises(ScoringStopped) as error:
            score_file(served.context(), whole_rows, tmp_path / "out.parquet")
    text = explain(error.value)
    assert f"(process {workers[0].pid}) was killed by SIGKILL, as systems do with what runs out of memory; fewer score.workers" in text
    assert "finished parts stay in" in text
    assert "give the same command again to go on" in text
    assert len(workers) == 2 and all(worker.exitcode is not None for worker in workers)
    assert {path.name.partition("-")[0] for path in (tmp_path / ".out.parquet.parts").rglob("*-*")} == {"part"}
    written = count_parts(monkeypatch)
    score(served, whole_rows, tmp_path / "out.parquet", workers=1)
    assert len(written) <= 8
    assert pq.read_table(tmp_path / "out.parquet").drop_columns(["score", "model_version"]) == pq.read_table(whole_rows)


def test_parts_in_flight_are_bounded(served: Served, whole_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.change(score={"batch_rows": 5, "workers": 2})
    waiting: list[int] = []
    ask = local_executor.WorkerPool._ask

    def asking(self: local_executor.WorkerPool, part: Part) -> None:
        ask(self, part)
        waiting.append(len(self._asked))

    monkeypatch.setattr(local_executor.WorkerPool, "_ask", asking)
    score_file(served.context(), whole_rows, tmp_path / "out.parquet")
    assert len(waiting) == 21 and max(waiting) == 3


def test_rows_that_cannot_be_scored_are_named_by_workers_too(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    bad = pq.read_table(whole_rows).set_column(2, "item_id", pa.array(np.arange(103) / 2))
    pq.write_table(bad, whole_rows)
    with pytest.raises(DataError, match=r"in.parquet, rows from \d+ on: column item_id must hold text or integer ids"):
        score(served, whole_rows, tmp_path / "out.parquet", workers=2, batch_rows=20)
    assert leftovers(tmp_path) == []


def test_a_fault_of_the_program_in_a_worker_comes_with_its_trace(served: Served, tmp_path: Path) -> None:
    folder = PartsFolder(tmp_path / ".parts", {})
    model = load_chosen_model(served.context()).loaded
    answers = []
    for part in (Part(0, 0, rows(3)), Part(1, 3, rows(3), rows(3).select(["kind"]))):
        hand_over(part, folder)
        folder.path.joinpath(f"part-{part.number:09d}.parquet").mkdir()  # where the part should go
        answers.append(Answer.from_json(local_executor.work(model.path, "1", folder.path, part.number).to_json()))
    assert [(answer.number, answer.first, answer.fault) for answer in answers] == [(0, 0, "program"), (1, 3, "program")]
    with pytest.raises(RuntimeError, match=r"in a worker, rows.parquet, rows from 4 on: IsADirectoryError") as error:
        answers[1].finished("in a worker", "rows.parquet", folder)
    assert "Traceback" in error.value.__notes__[0]


def test_an_orphaned_worker_ends(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    """A worker whose main process is killed ends by itself: it watches it."""
    program = start(served, whole_rows, tmp_path / "out.parquet", 2)
    pid = program.process.pid
    children = [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    assert len(children) == 3  # two workers, and what Python keeps account of their semaphores with
    program.process.kill()
    program.end()
    wait_until(lambda: not any(alive(pid) for pid in children), "a worker stays without its main process")


def test_ctrl_c_ends_all_workers_and_says_so_once(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    program = start(served, whole_rows, tmp_path / "out.parquet", 2)
    group = program.process.pid
    assert group is not None
    os.killpg(group, signal.SIGINT)  # as a terminal does: to the whole group
    said = program.end().err
    assert said.count("Traceback") == 1 and said.splitlines()[-1] == "KeyboardInterrupt"

    def ended() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(ended, "one of the group stays")


def test_a_worker_imports_little_and_runs_no_script(served: Served, whole_rows: Path, tmp_path: Path) -> None:
    """A worker imports neither torch nor MLflow, and not once more the script that asks, which has no guard for its main part."""
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys
from pathlib import Path
from pipelines.registry.champion import load_chosen_model
from pipelines.scoring import files, local_executor
from pipelines.scoring.files import score_file
from pipelines.scoring.parts import PartsFolder
from pipelines.workspace.child_processes import as_children_begin
from pipelines.workspace.stopwatch import Stopwatch
from tests.pipelines.served import Served, configuration
print("script")
workspace = Path({str(served.workspace)!r})
served = Served(workspace, workspace, configuration())
served.change(score={{"workers": 2, "batch_rows": 10}})
model = load_chosen_model(served.context()).loaded
folder = PartsFolder(Path({str(tmp_path / "parts")!r}), {{}})
with local_executor.WorkerPool(model, "1", folder, 1, "", stopwatch=Stopwatch()) as pool, as_children_begin(1):
    opened = pool._pool.submit(local_executor._opened, model.path)
    print(pool._pool.submit(eval, "sorted(name for name in __import__('sys').modules if '.' not in name)").result())
    opened.exception()
score_file(served.context(), Path({str(whole_rows)!r}), Path({str(tmp_path / "out.parquet")!r}))
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    first, modules = done.stdout.splitlines()
    assert first == "script"
    assert "pyarrow" in modules
    assert not {"torch", "mlflow", "sklearn", "duckdb", "rich", "click"} & set(ast.literal_eval(modules))
    assert (tmp_path / "out.parquet").exists()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_lock_of_a_folder_that_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.workspace import lock

    acquire = lock._acquire
    monkeypatch.setattr(lock, "_acquire", lambda descriptor: (tmp_path / "folder" / ".lock").unlink() or acquire(descriptor))
    with pytest.raises(WorkspaceLocked, match="was removed by a run that ended"), workspace_lock(tmp_path / "folder", "me"):
        pass


def test_a_date_goes_on_from_its_finished_parts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.change(score=IN_PARTS)
    whole = served.run()[1].joinpath("scores.parquet").read_bytes()
    served.run(model="models:/demo/2")
    day = date(2024, 1, 3)
    with stopping_after(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device")), pytest.raises(ScoringStopped) as error:
        served.run()
    assert "2 finished parts stay" in str(error.value)
    assert "no space left" in failed_attempts(served.workspace)[day]
    assert pq.read_table(served.workspace / "scores" / f"date={day}" / "scores.parquet")["model_version"].unique().to_pylist() == ["2"]
    written = count_parts(monkeypatch)
    _, path = served.run()
    assert written == [4]  # 13 and 13 of 30 rows stood
    assert path.joinpath("scores.parquet").read_bytes() == whole
    assert json.loads((path / "scoring.json").read_text())["resumed_rows"] == 26
    assert not parts_path(served.workspace, day).exists()
    assert failed_attempts(served.workspace) == {}


BIG = 2**60


@pytest.mark.parametrize(
    ("columns", "together"),
    [
        ({"request_id": [1, 1, 2, 2, 3]}, True),
        ({"request_id": [1, 2, 1]}, False),
        ({"request_id": [1, None, 1]}, False),
        ({"request_id": [None, None, 1, None, 2]}, True),
        ({"request_id": ["", "a", "", "b"]}, True),  # a text without letters is none
        ({"request_id": [BIG, BIG, None, BIG + 1, BIG + 1, None, BIG + 2]}, True),
        ({"request_id": [7, 8, 9, None, 7]}, False),
        ({"request_id": [1, 1, 1], "user_id": [BIG, None, BIG + 1]}, True),
        ({"request_id": [1, 1, 1, 1], "user_id": ["a", "b", "a", "b"]}, False),
        ({"request_id": [1, 2, 1], "timestamp": ["2024-01-01T00:00", "2024-01-01T00:00", "2024-01-01T00:00Z"]}, False),
    ],
)
def test_requests_of_a_file_stand_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, list[Any]], together: bool
) -> None:
    monkeypatch.setattr(files, "HASHED", 2)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"timestamp": [5] * len(columns["request_id"]), **columns}), path, row_group_size=2)
    with pq.ParquetFile(path) as file:
        if together:
            check_requests_stand_together(file, path)
            return
        by = "timestamp, user_id and request_id" if "user_id" in columns else "timestamp and request_id"
        with pytest.raises(DataError, match=rf"rows\.parquet: rows of one request do not stand together.*; sort the rows by {by}$"):
            check_requests_stand_together(file, path)


def test_a_file_whose_requests_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"request_id": [[1], [2]], "timestamp": [5, 5]}), path)
    with pq.ParquetFile(path) as file, pytest.raises(DataError, match="column request_id"):
        check_requests_stand_together(file, path)
    pq.write_table(pa.table({"request_id": np.arange(1000), "timestamp": np.arange(1000)}), path)
    damaged = bytearray(path.read_bytes())
    damaged[4:12] = b"\xff" * 8
    path.write_bytes(damaged)
    with pq.ParquetFile(path) as file, pytest.raises(DataError, match=r"rows\.parquet: cannot be read from row 1 on"):
        check_requests_stand_together(file, path)


def test_parts_of_numbered_texts_cross_row_groups_of_other_dictionaries(tmp_path: Path) -> None:
    histories = [[f"i{(n * k) % (7 + n // 500)}" for k in range(n % 4)] for n in range(3000)]
    table = pa.table({"history": histories, "item_id": [f"i{n % 9}" for n in range(3000)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=500)
    with open_parquet(tmp_path / "rows.parquet", ["history", "item_id"]) as file:
        assert pa.types.is_dictionary(file.schema_arrow.field("history").type.value_type)
        parts = list(in_parts(_tables(file, tmp_path / "rows.parquet", 0, 800), 800))
        later = list(in_parts(_tables(file, tmp_path / "rows.parquet", 1600, 800), 800, 2))
    assert [part.rows.num_rows for part in parts] == [800, 800, 800, 600]
    assert [row for part in parts for row in part.rows.combine_chunks().to_pylist()] == table.to_pylist()
    assert [row for part in later for row in part.rows.to_pylist()] == table.slice(1600).to_pylist()
