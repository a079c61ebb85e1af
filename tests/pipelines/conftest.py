"""Fixtures for the pipelines: a configuration, and pipelines of toy stages that take no time."""

from __future__ import annotations

import fcntl
import io
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.config.run import RunConfig
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.pipelines.served import Served, copied, make_served, make_template
from tests.pipelines.tiny_workspace import Workspace
from tests.programs import TIMED
from tests.signatures import click_signature
from tests.summaries import click_summary

MINIMAL = {"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}}


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate(MINIMAL)


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration: a simulated source, a split, and the given text."""

    def write(text: str = "", name: str = "demo.yaml") -> Path:
        path = tmp_path / name
        path.write_text("source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n" + text)
        return path

    return write


class ToyPipeline:
    """Three stages, a -> b -> c, that write what they read; counts how often each ran.

    ``a`` reads the key ``seed``, ``b`` the key ``distill``, ``c`` the key ``score``; ``outside`` stands for the raw log.
    """

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.ran: list[str] = []
        self.outside = "log 1"
        self.text = "text"
        self.fail_in = ""
        self.concluded: list[str] = []

    def _run(self, context: StageContext) -> None:
        self.ran.append(context.stage)
        if self.fail_in == context.stage:
            (context.output / "half.txt").write_text("half")
            context.checkpoint.mkdir(exist_ok=True)
            (context.checkpoint / "step.txt").write_text("7")
            raise RuntimeError("the lights went out")
        said = "".join((path / "out.txt").read_text() for path in context.inputs.values())
        (context.output / "out.txt").write_text(f"{said}{context.stage}:{self.text};")
        if (context.checkpoint / "step.txt").exists():
            context.record({"resumed_from": (context.checkpoint / "step.txt").read_text()})

    def stages(self) -> list[Stage]:
        return [
            Stage("a", self._run, keys=("seed",), outside=lambda run: {"log": self.outside}),
            Stage("b", self._run, upstream=("a",), keys=("distill",), conclude=lambda context: self.concluded.append(context.fingerprint)),
            Stage("c", self._run, upstream=("b",), keys=("score",)),
        ]

    def runner(self, config: RunConfig) -> Runner:
        return Runner(RunContext(config, self.workspace, console=Console(io.StringIO())), self.stages())


@pytest.fixture
def toy(tmp_path: Path) -> ToyPipeline:
    return ToyPipeline(tmp_path / "workspace")


@pytest.fixture(scope="session", autouse=True)
def _speed_is_measured_for_a_moment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in TIMED:
            patch.setattr(name, 0.001)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder once, however many processes share the tests: the first that asks makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with open(shared / f"{name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def mlflow_database(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """An empty MLflow database to copy: making one takes seconds."""
    from pipelines.tracking.client import connect

    def make(folder: Path) -> None:
        # What a kill in the middle of the tables leaves: it must not matter.
        (folder / ".mlflow.db.unfinished").write_bytes(b"half a database")
        connect(f"sqlite:///{folder / 'mlflow.db'}")

    return made_once("empty", make) / "mlflow.db"


@pytest.fixture(scope="session")
def whole_pipeline(made_once: Callable[[str, Callable[[Path], None]], Path], mlflow_database: Path) -> Workspace:
    """A workspace in which the pipeline was gone to its end, to be copied; what was said is beside it, in ``out.txt`` and ``err.txt``."""

    def make(folder: Path) -> None:
        out, err = Workspace.new(folder / "workspace", mlflow_database).run("run")
        (folder / "out.txt").write_text(out, encoding="utf-8")
        (folder / "err.txt").write_text(err, encoding="utf-8")

    return Workspace(made_once("whole", make) / "workspace")


@pytest.fixture
def workspace(tmp_path: Path, mlflow_database: Path) -> Path:
    """A workspace with an empty tracking store."""
    path = tmp_path / "workspace"
    path.mkdir()
    shutil.copyfile(mlflow_database, path / "mlflow.db")
    return path


ITEMS, DEVICES = ["10", "11", "12", "13"], ["phone", "desk"]


@pytest.fixture(scope="session")
def make_export() -> Callable[[Path, list[float]], None]:
    """Writes an exported student whose logit is a number per candidate item (index: padding, unknown, ..., items)."""
    import numpy as np
    import onnx
    import pyarrow as pa
    import pyarrow.parquet as pq
    from onnx import TensorProto, helper, numpy_helper

    from ctr_kd.export.release_code import click_scorer_code
    from feature_store.tables import casting

    def make(directory: Path, logits: list[float]) -> None:
        directory.mkdir(parents=True)
        table = np.zeros((9, 1), np.float32)
        table[1], table[5:, 0] = -1.0, logits
        nodes = [
            helper.make_node("Slice", ["segment_b", "start", "end", "axis"], ["item"]),
            helper.make_node("Reshape", ["item", "rows"], ["flat"]),
            helper.make_node("Gather", ["token.tables.item.weight", "flat"], ["logit"]),
        ]
        constants = {"start": [0], "end": [1], "axis": [2], "rows": [-1]}
        initializers = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
        initializers.append(numpy_helper.from_array(table, "token.tables.item.weight"))
        graph = helper.make_graph(
            nodes,
            "student",
            [helper.make_tensor_value_info("segment_b", TensorProto.INT32, ["rows", 1, 2])],
            [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["rows", 1])],
            initializers,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), directory / "student.onnx")
        vocabulary = {"feature": ["item"] * 4 + ["device"] * 2, "token": ITEMS + DEVICES}
        pq.write_table(pa.table(vocabulary), directory / "vocabulary.parquet")
        click_signature().write(directory)
        (directory / "scorer.py").write_bytes(click_scorer_code())
        shutil.copyfile(casting.__file__, directory / "casting.py")

    return make


@pytest.fixture(scope="session")
def make_assembly() -> Callable[[Path], None]:
    """Writes a small assembly: 300 requests of 3 candidates, on four items of which the first are clicked most."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(directory: Path) -> None:
        rng, requests = np.random.default_rng(0), 300
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"code": np.arange(5, dtype=np.int32), "item_id": [10, 11, 12, 13, 99]}), directory / "items.parquet")
        pq.write_table(
            pa.table({"code": np.arange(20, dtype=np.int32), "user_id": [f"u{n}" for n in range(20)]}), directory / "users.parquet"
        )
        moments = 1_700_000_000_000_000 + np.arange(40) * 60_000_000
        clicks = {
            "item": rng.integers(0, 5, 40).astype(np.int32),
            "timestamp": moments,
            "time_known": np.arange(40) >= 3,
            "known_at": moments,
            "user": np.repeat(np.arange(20), 2).astype(np.int32),
        }
        pq.write_table(pa.table(clicks), directory / "clicks.parquet")
        count = requests * 3
        request = np.repeat(np.arange(requests), 3)
        item = rng.integers(0, 5, count)
        probability = np.array([0.8, 0.6, 0.4, 0.1, 0.3])[item]
        user = request % 20
        rows = {
            "row_id": np.arange(count),
            "request": request,
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "timestamp": 1_700_100_000_000_000 + request * 1_000_000,
            "label": (rng.random(count) < probability).astype(np.int8),
            "split": np.array(["train", "validation", "test"])[np.minimum(request // 100, 2)],
            "history_start": user * 2,
            "history_end": user * 2 + request % 3,
            "item_age": pa.array(rng.random(count).astype(np.float32), mask=rng.random(count) < 0.1),
            "item_clicks_1h": rng.integers(0, 9, count).astype(np.float32),
            "item_clicks_1d": rng.integers(0, 99, count).astype(np.float32),
            "device": pa.array(np.array(["phone", "desk", "tv"])[rng.integers(0, 3, count)], mask=rng.random(count) < 0.1),
            "click_probability": probability,
        }
        pq.write_table(pa.table(rows), directory / "rows.parquet")
        summary = click_summary(
            split={
                "train_from": None,
                "train_until": "2023-11-16T02:01:40+00:00",
                "validate_until": "2023-11-16T02:03:20+00:00",
                "test_until": "2023-11-16T02:05:00+00:00",
            },
            rows={"train": 300, "validation": 300, "test": 300},
            requests={"train": 100, "validation": 100, "test": 100},
            users=20,
            items=5,
            clicks=40,
            unseen_item_share=0.2,
            statistics=["item_age", "item_clicks_1h", "item_clicks_1d"],
            context={"categorical": ["device"], "dense": []},
            oracle=True,
        )
        summary.write(directory)
        (directory / "vocabulary.json").write_text(json.dumps({"item": ITEMS, "device": DEVICES}))

    return make


EXPERIMENT = """
source: {reader: simulated, simulator: {users: 40, items: 30, requests: 300, days: 4, candidates: 4}}
split: {fractions: [0.6, 0.2, 0.2]}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 1, batch_size: 128}}
distill: {teachers: {bert: 1}, student: {width: 4, hidden: 8}, training: {epochs: 1, batch_size: 128}}
evaluate: {bootstrap: 20}
prove: {seeds: 2, ablation: [listwise]}
sweep: {kinds: [pooled, din], widths: [4, 8]}
"""


@pytest.fixture(scope="session")
def taught(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace in which the teacher of :data:`EXPERIMENT` is trained, to be copied."""
    from pipelines.config.run import load
    from pipelines.stages import TO_TEACHER

    def make(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(EXPERIMENT)
        context = RunContext(load(folder / "tiny.yaml"), folder / "workspace", console=Console(io.StringIO()))
        Runner(context, TO_TEACHER).run()

    return made_once("taught", make) / "workspace"


@pytest.fixture
def experiment(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command through the real stages on a tiny simulated log; returns its exit code and what it wrote."""
    from pipelines.cli import main as cli
    from pipelines.tracking.tracker import Tracker

    shutil.copytree(taught, tmp_path / "workspace")
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([arguments[0], str(tmp_path / "tiny.yaml"), "--workspace", str(tmp_path / "workspace"), *arguments[1:]])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


@pytest.fixture(scope="session")
def served_template(
    made_once: Callable[[str, Callable[[Path], None]], Path], mlflow_database: Path, make_export: Callable[[Path, list[float]], None]
) -> Path:
    """What every :class:`tests.pipelines.served.Served` is copied from."""

    def make(root: Path) -> None:
        make_template(root, make_export)
        (root / "workspace").mkdir()
        shutil.copyfile(mlflow_database, root / "workspace" / "mlflow.db")
        make_served(root, root / "workspace")

    return made_once("served", make)


@pytest.fixture
def served(served_template: Path, tmp_path: Path) -> Served:
    """A workspace in production: three days of impressions, two registered versions, the first champion."""
    return copied(served_template, tmp_path / "workspace")
