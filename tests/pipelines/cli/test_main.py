"""The command line: exit codes, and the one line that every failure ends in."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feature_store.tables.contracts import DataError
from pipelines.cli import main as cli
from pipelines.cli import registry as champions
from pipelines.registry.promotion_gate import at_least, decide, refusal
from pipelines.stages import PIPELINE
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.lock import workspace_lock
from tests.programs import HANGS

ROOT = Path(__file__).resolve().parents[3]


class Program:
    """Runs the command line in this process, on toy stages whose names are those of the real ones."""

    def __init__(self, toy: Any, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
        self.toy, self.capsys, self.workspace = toy, capsys, workspace

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in (*arguments, "--workspace", self.workspace)])
        out, err = self.capsys.readouterr()
        return int(end.value.code or 0), out, err


@pytest.fixture
def program(toy: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    names = {"a": "ingest", "b": "pretrain", "c": "finetune"}
    stages = [replace(stage, name=names[stage.name], upstream=tuple(names[name] for name in stage.upstream)) for stage in toy.stages()]
    monkeypatch.setattr(cli, "PIPELINE", stages)
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    return Program(toy, capsys, toy.workspace)


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_a_run_says_what_it_made_and_a_second_that_there_was_nothing_to_do(program: Program, yaml_file: Callable[..., Path]) -> None:
    code, out, _ = program("run", yaml_file())
    assert (code, out.split(" in ")[0]) == (0, "made ingest, pretrain, finetune")
    code, out, _ = program("run", yaml_file())
    assert code == 0
    assert out.startswith("nothing to do: ingest, pretrain, finetune are up to date")


def test_a_partition_that_a_kill_left_aside_returns_with_the_next_command(program: Program, yaml_file: Callable[..., Path]) -> None:
    old = program.workspace / "scores" / ".date=2024-01-01.old"
    old.mkdir(parents=True)
    assert program("run", yaml_file())[0] == 0
    assert [path.name for path in old.parent.iterdir()] == ["date=2024-01-01"]


def test_single_stages_ranges_and_force(program: Program, yaml_file: Callable[..., Path]) -> None:
    path = yaml_file()
    assert program("pretrain", path)[1].startswith("made ingest, pretrain in")
    assert program("run", path, "--until", "pretrain")[1].startswith("nothing to do")
    assert program("pretrain", path, "--force")[1].startswith("made pretrain in")
    assert program("run", path, "--from", "pretrain", "--force")[1].startswith("made pretrain, finetune in")
    assert program("run", path, "--set", "seed=5")[1].startswith("made ingest, pretrain, finetune")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "absent.yaml"), "absent.yaml: no such file"),
        (("run", "CONF", "--set", "sed=1"), "--set: sed: unknown key; did you mean 'seed'?"),
        (("run", "CONF", "--as-of", "yesterday"), "is not a time: write 2017-10-11"),
        (("run", "CONF", "--colour"), "No such option"),
        (("run",), "Missing argument 'CONF'"),
        (("run", "CONF", "--from", "train"), "'train' is not"),
        (("run", "CONF", "--from", "finetune", "--until", "ingest"), "--from finetune comes after --until ingest"),
        (("fly", "CONF"), "No such command 'fly'"),
        (("score", "CONF", "--input", "absent.parquet", "--output", "o.parquet"), "does not exist"),
        (("score", "CONF", "--output", "o.parquet"), "--input and --output belong together"),
        (("score", "CONF", "--date", "tomorrow"), "is not a date"),
    ],
)
def test_usage_and_configuration_end_with_two(
    program: Program, yaml_file: Callable[..., Path], arguments: tuple[str, ...], expected: str
) -> None:
    code, _, err = program(*(str(yaml_file()) if argument == "CONF" else argument for argument in arguments))
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("ctr-kd: ")
    assert expected in err


def test_every_error_of_a_configuration_has_a_line(program: Program, yaml_file: Callable[..., Path]) -> None:
    path = yaml_file("history: {max_length: 0}\nvocabulary: {min_count: 0}")
    code, _, err = program("config", path)
    lines = err.strip().splitlines()
    assert (code, [line.split(": should")[0] for line in lines]) == (
        2,
        [f"ctr-kd: {path}:3: history.max_length", f"ctr-kd: {path}:4: vocabulary.min_count"],
    )
    code, _, err = program("config", path, "--log-format", "json")
    assert code == 2
    assert "max_length" in json.loads(err)["message"] and "min_count" in json.loads(err)["message"]


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (DataError("clicks.csv: column item_id is missing; rename it"), 3, "ctr-kd: clicks.csv: column item_id is missing; rename it"),
        (refusal(decide([at_least("auc", 0.4, 0.5)], "2", "1")), 4, "version 1 stays champion"),
        (OSError(28, "No space left on device"), 1, "ctr-kd: no space left on the disk of the workspace"),
        (ValueError("two\nlines"), 1, "ctr-kd: ValueError: two lines (add --debug for the traceback)"),
        (KeyboardInterrupt(), 1, "ctr-kd: interrupted; run the same command again to continue"),
        (MemoryError(), 1, "ctr-kd: not enough memory"),
    ],
)
def test_failures_have_their_codes_and_end_in_one_line(
    program: Program, yaml_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, expected: str
) -> None:
    def fail(context: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "PIPELINE", [replace(cli.PIPELINE[0], run=fail)])
    found, out, err = program("run", yaml_file())
    assert found == code
    assert expected in last_line(err)
    assert "Traceback" not in err
    assert ("check  value  bound   passed" in out) == (code == 4)
    found, _, err = program("run", yaml_file(), "--debug")
    assert found == code
    assert "Traceback" in err


def test_the_second_of_two_runs_ends_with_five(program: Program, yaml_file: Callable[..., Path]) -> None:
    with workspace_lock(program.workspace, "ctr-kd run other.yaml"):
        code, _, err = program("run", yaml_file())
    assert code == 5
    assert f"is in use by process {os.getpid()}" in last_line(err)
    assert program("run", yaml_file())[0] == 0


def test_promote_moves_the_alias_whatever_the_gate_said(
    program: Program, yaml_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mlflow_database: Path
) -> None:
    """On a fresh workspace, where it runs the pipeline first."""
    from pipelines.registry.registry import Registry
    from pipelines.tracking.client import connect

    def register(context: Any) -> None:
        client = connect(uri)
        client.create_registered_model("demo")
        client.create_model_version("demo", "file:///model")
        Registry(uri, "demo").set_challenger("1")

    def refuse(context: Any) -> None:
        raise refusal(decide([at_least("auc", 0.4, 0.5)], "1", None))

    program.workspace.mkdir()
    shutil.copyfile(mlflow_database, program.workspace / "mlflow.db")
    uri = f"sqlite:///{program.workspace / 'mlflow.db'}"
    stage = replace(cli.PIPELINE[0], name="register", run=register, conclude=refuse)
    monkeypatch.setattr(champions, "PIPELINE", [stage])
    code, out, err = program("promote", yaml_file(), "--why", "the lights were out")
    assert (code, out.splitlines()[0]) == (0, "demo: champion was version none, is version 1"), err
    assert out.splitlines()[-1].split()[2:6] == ["none", "->", "1", "promote"]
    assert out.endswith("the lights were out\n")
    code, _, err = program("rollback", yaml_file())
    assert (code, last_line(err)) == (1, "ctr-kd: demo has no earlier champion to go back to")


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_registry_that_is_down_is_one_line(
    program: Program, yaml_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, err = program(command, yaml_file(), "--set", "tracking.uri=http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("ctr-kd: MLflow at http://127.0.0.1:9 cannot be used")
    assert len(err.strip().splitlines()) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing_to_read(
    program: Program, yaml_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/dev/full`` refuses every byte, as a full disk does."""

    def write(context: Any) -> None:
        (context.output / "rows.parquet").symlink_to("/dev/full")
        (context.output / "rows.parquet").write_text("x" * 10_000)

    monkeypatch.setattr(cli, "PIPELINE", [replace(cli.PIPELINE[0], run=write)])
    code, _, err = program("run", yaml_file())
    assert code == 1
    assert "no space left on the disk" in last_line(err)
    assert not list(program.workspace.glob("artifacts/*/*/_manifest.json"))


def test_log_lines_are_json_where_machines_read_them(program: Program, yaml_file: Callable[..., Path]) -> None:
    code, out, err = program("run", yaml_file(), "--log-format", "json")
    lines = [json.loads(line) for line in err.splitlines()]
    assert (code, out.split(" in ")[0]) == (0, "made ingest, pretrain, finetune")
    assert [line["stage"] for line in lines if line["message"].startswith("done")] == ["ingest", "pretrain", "finetune"]
    assert lines[-1]["fields"]["seconds"] >= 0 and len(lines[-1]["fields"]["fingerprint"]) == 16
    code, _, err = program("run", yaml_file(), "--log-format", "json", "--from", "nothing")
    (line,) = map(json.loads, err.splitlines())
    assert (code, line["level"], line["fields"]) == (2, "ERROR", {"exit_code": 2})
    assert "nothing" in line["message"]
    code, _, err = program("run", "nowhere.yaml", "--debug", "--log-format", "json")
    (line,) = map(json.loads, err.splitlines())
    assert (code, line["fields"]["exit_code"]) == (2, 2)
    assert line["fields"]["traceback"].startswith("Traceback")


def test_config_prints_what_loads_again(program: Program, yaml_file: Callable[..., Path], tmp_path: Path) -> None:
    code, out, _ = program("config", yaml_file(), "--set", "history.max_length=7")
    assert code == 0
    assert "# newest clicks kept of a history\n  max_length: 7" in out
    (tmp_path / "again.yaml").write_text(out)
    assert program("config", tmp_path / "again.yaml")[1] == out
    assert not program.workspace.exists()


def test_status_changes_nothing(program: Program, yaml_file: Callable[..., Path]) -> None:
    code, out, _ = program("status", yaml_file())
    assert code == 0
    assert "(does not exist yet)" in out
    assert "champion: none" in out
    assert not program.workspace.exists()


def test_help_teaches(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ((), ("run",), ("score",), ("evaluate",), ("next-item",), ("prove",), ("sweep",), ("status",)):
        with pytest.raises(SystemExit) as end:
            cli.main([*command, "--help"])
        assert end.value.code == 0
        assert "Example" in capsys.readouterr().out


def test_a_later_command_may_leave_out_the_data_and_the_first_may_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    path = tmp_path / "films.yaml"
    path.write_text("source: {reader: movielens}\nsplit: {fractions: [0.8, 0.1, 0.1]}")
    with pytest.raises(SystemExit) as end:
        cli.main(["ingest", str(path), "--workspace", str(tmp_path / "workspace")])
    assert end.value.code == 2
    assert "name their folder with --data DIR" in capsys.readouterr().err


def test_a_terminal_that_lacks_a_letter_shows_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), "latin-1", write_through=True))
    with pytest.raises(SystemExit) as end:
        cli.main(["config", str(tmp_path / "模型.yaml")])
    assert end.value.code == 2
    assert b"\\u6a21\\u578b.yaml" in sys.stderr.buffer.getvalue()


def test_a_terminated_run_says_so_and_ends_with_one(yaml_file: Callable[..., Path], tmp_path: Path) -> None:
    code = """
import select
import sys
from dataclasses import replace
from pipelines.cli import registry as champions
from pipelines.cli import main as cli
from pipelines.tracking.tracker import Tracker
def work(context):
    print("working", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:  # until it is terminated; a signal may come just before a wait begins
        pass
cli.PIPELINE = (replace(cli.PIPELINE[0], run=work, outside=None),)
Tracker._send = lambda self, work: None
cli.main()
"""
    command = [sys.executable, "-c", code, "run", str(yaml_file()), "--workspace", str(tmp_path / "workspace")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.terminate()
    process.wait(HANGS)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    assert last_line(err) == "ctr-kd: interrupted; run the same command again to continue"


def test_the_pipeline_is_complete_and_in_order() -> None:
    names = [stage.name for stage in PIPELINE]
    assert names == ["ingest", "pretrain", "finetune", "distill", "evaluate", "register", "score"]
    for position, stage in enumerate(PIPELINE):
        assert set(stage.upstream) <= set(names[:position])


def test_the_program_needs_no_torch_and_no_mlflow_to_start() -> None:
    heavy = ("torch", "mlflow", "sklearn", "onnxruntime", "pandas", "faiss", "pyspark", "jinja2")
    code = f"import sys, pipelines.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=HANGS)
    assert done.stdout.strip() == "[]"


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, cwd=ROOT, check=True, timeout=HANGS
    )
    assert "Usage: ctr-kd" in done.stdout
