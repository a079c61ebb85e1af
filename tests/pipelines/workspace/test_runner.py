"""The runner: what stands is skipped, what was killed continues, and what changed is made again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.workspace.artifacts import ArtifactError
from tests.programs import HANGS


def changed(config: RunConfig, **keys: Any) -> RunConfig:
    return RunConfig.model_validate(config.model_dump(by_alias=True) | keys)


def outputs(workspace: Path) -> dict[str, str]:
    return {path.parent.parent.name: path.read_text() for path in workspace.glob("artifacts/*/*/out.txt")}


def test_a_second_run_does_nothing(toy: Any, config: RunConfig) -> None:
    first = toy.runner(config).run()
    assert first.made == ("a", "b", "c")
    second = toy.runner(config).run()
    assert (second.made, second.up_to_date) == ((), ("a", "b", "c"))
    assert toy.ran == ["a", "b", "c"]
    assert len(toy.concluded) == 2  # a conclusion is drawn each time
    assert outputs(toy.workspace)["c"] == "a:text;b:text;c:text;"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 1}, ["a", "b", "c"]),
        ({"distill": {"alpha": 0.9}}, ["b", "c"]),
        ({"score": {"candidates": "live"}}, ["c"]),
        ({"history": {"max_length": 3}}, []),
    ],
)
def test_a_changed_key_makes_the_stages_that_read_it_and_those_after(
    toy: Any, config: RunConfig, change: dict[str, Any], expected: list[str]
) -> None:
    toy.runner(config).run()
    toy.ran.clear()
    toy.runner(changed(config, **change)).run()
    assert toy.ran == expected
    toy.ran.clear()
    toy.runner(config).run()
    assert toy.ran == []  # the artifacts of the first configuration are still up to date


def test_changed_input_from_outside_is_noticed(toy: Any, config: RunConfig) -> None:
    toy.runner(config).run()
    toy.outside = "log 2"
    assert toy.runner(config).run().made == ("a", "b", "c")


def test_from_until_and_force(toy: Any, config: RunConfig) -> None:
    assert toy.runner(config).run(last="a").made == ("a",)
    assert toy.runner(config).run("b", "b").made == ("b",)
    assert toy.runner(config).run("c", "c", force=True).made == ("c",)
    assert toy.runner(config).run("b", force=True).made == ("b", "c")
    assert toy.runner(config).run(force=True).made == ("a", "b", "c")


def test_a_single_stage_runs_missing_earlier_ones_first(toy: Any, config: RunConfig) -> None:
    assert toy.runner(config).run("c", "c").made == ("a", "b", "c")


def test_an_earlier_stage_made_again_with_another_result_makes_later_ones_out_of_date(toy: Any, config: RunConfig) -> None:
    toy.runner(config).run()
    toy.text = "other"
    toy.runner(config).run("a", "a", force=True)
    assert [state.state for state in toy.runner(config).states()] == ["up to date", "out of date", "missing (needs b)"]
    assert toy.runner(config).run().made == ("b", "c")
    assert outputs(toy.workspace)["c"] == "a:other;b:other;c:other;"


def test_an_earlier_stage_made_again_with_the_same_result_does_not(toy: Any, config: RunConfig) -> None:
    toy.runner(config).run()
    toy.runner(config).run("a", "a", force=True)
    assert toy.runner(config).run().made == ()


def test_a_wrong_order_or_name_is_a_usage_error(toy: Any, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="--from c comes after --until a"):
        toy.runner(config).run("c", "a")
    with pytest.raises(ConfigError, match="there is no stage 'd'"):
        toy.runner(config).run("d")


def test_a_failed_stage_leaves_nothing_to_read_and_continues_from_its_checkpoint(toy: Any, config: RunConfig) -> None:
    toy.fail_in = "b"
    with pytest.raises(RuntimeError):
        toy.runner(config).run()
    assert [state.state for state in toy.runner(config).states()] == ["up to date", "unfinished", "missing (needs b)"]
    toy.fail_in = ""
    runner = toy.runner(config)
    assert runner.run().made == ("b", "c")
    artifact = runner.context.artifacts["b"]
    assert artifact.manifest.facts == {"resumed_from": "7"}
    assert set(artifact.manifest.files) == {"out.txt"}
    assert not artifact.checkpoint.exists()


def test_a_checkpoint_of_other_inputs_is_not_continued(toy: Any, config: RunConfig) -> None:
    toy.fail_in = "b"
    with pytest.raises(RuntimeError):
        toy.runner(config).run()
    toy.fail_in, toy.text = "", "other"
    toy.runner(config).run("a", "a", force=True)  # the same name, other bytes
    runner = toy.runner(config)
    runner.run()
    assert runner.context.artifacts["b"].manifest.facts == {}


def test_force_does_not_continue_from_a_checkpoint(toy: Any, config: RunConfig) -> None:
    toy.fail_in = "b"
    with pytest.raises(RuntimeError):
        toy.runner(config).run()
    toy.fail_in = ""
    runner = toy.runner(config)
    runner.run(force=True)
    assert runner.context.artifacts["b"].manifest.facts == {}


def test_a_corrupt_byte_upstream_stops_the_stage_that_would_read_it(toy: Any, config: RunConfig) -> None:
    runner = toy.runner(config)
    runner.run(last="a")
    file = runner.context.artifacts["a"].path / "out.txt"
    file.write_text("a:texu;")
    with pytest.raises(ArtifactError, match="does not match its digest"):
        toy.runner(config).run()
    assert toy.ran == ["a"]


def test_what_a_stage_did_outside_may_be_gone(toy: Any, config: RunConfig, tmp_path: Path) -> None:
    effect = tmp_path / "registered"
    stages = toy.stages()
    stages[2] = replace(stages[2], up_to_date=lambda context: effect.exists())
    toy.stages = lambda: stages
    effect.touch()
    toy.runner(config).run()
    assert toy.runner(config).run().made == ()
    effect.unlink()
    assert toy.runner(config).run().made == ("c",)


def test_states_change_nothing(toy: Any, config: RunConfig) -> None:
    assert [state.state for state in toy.runner(config).states()] == ["missing", "missing (needs a)", "missing (needs b)"]
    assert not toy.workspace.exists()


def test_the_manifest_tells_what_went_in_and_what_it_took(toy: Any, config: RunConfig) -> None:
    runner = toy.runner(config)
    runner.run()
    manifest = runner.context.artifacts["b"].manifest
    assert manifest.stage == "b"
    assert set(manifest.config) == {"distill"}
    assert manifest.inputs["a"].fingerprint == runner.context.artifacts["a"].path.name
    assert manifest.seconds >= 0
    assert manifest.peak_memory_bytes > 1 << 20
    assert manifest.versions["python"]
    assert runner.context.artifacts["a"].manifest.inputs["log"].to_json() == {"digest": "log 1"}


def test_equal_runs_have_equal_names_in_other_workspaces(toy: Any, config: RunConfig, tmp_path: Path) -> None:
    toy.runner(config).run()
    names = {path.name for path in toy.workspace.glob("artifacts/*/*")}
    toy.workspace = tmp_path / "elsewhere"
    toy.runner(config).run()
    assert {path.name for path in toy.workspace.glob("artifacts/*/*")} == names


KILLED = """
import io, os, signal, sys
from pathlib import Path
from pipelines.config.run import RunConfig
from pipelines.workspace.console import Console
from pipelines.workspace.runner import Runner
from pipelines.workspace.context import RunContext, Stage

workspace, die_at = Path(sys.argv[1]), int(sys.argv[2])
STEPS = 6

def count(context):
    file, total, begin = context.checkpoint / "state", 0, 0
    if file.exists():
        begin, total = map(int, file.read_text().split())
    for step in range(begin, STEPS):
        total = total * 3 + step
        if step == die_at:
            (context.output / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        context.checkpoint.mkdir(exist_ok=True)
        (context.checkpoint / "next").write_text(f"{step + 1} {total}")
        (context.checkpoint / "next").replace(file)
    (context.output / "total").write_text(f"{total}")
    print("steps", STEPS - begin)

config = RunConfig.model_validate({"name": "demo", "source": {"reader": "simulated"}, "split": {"fractions": [0.8, 0.1, 0.1]}})
runner = Runner(RunContext(config, workspace, console=Console(io.StringIO())), [Stage("count", count, keys=("seed",))])
runner.run()
print(runner.context.artifacts["count"].manifest.digest)
"""


def test_a_killed_run_ends_with_the_same_bytes_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(workspace: str, die_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / workspace), str(die_at)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, timeout=HANGS
        )

    whole = run("whole", -1).stdout.splitlines()
    killed = run("killed", 4)
    assert killed.returncode == -signal.SIGKILL
    resumed = run("killed", -1).stdout.splitlines()
    assert whole[0] == "steps 6"
    assert resumed[0] == "steps 2"
    assert resumed[1] == whole[1]


def test_several_that_make_one_artifact_wait_for_the_first(toy: Any, config: RunConfig, tmp_path: Path) -> None:
    """Locks are by open file, so threads stand for the processes of one command."""
    work = toy._run
    toy._run = lambda context: (time.sleep(0.2), work(context))
    runners = [toy.runner(config) for _ in range(3)]
    for runner in runners:
        runner.context.making = tmp_path / "making"
    for stage in runners[0].stages.values():
        assert stage.source_digests  # read once, here: Python 3.11 may fail to parse in several threads at a time
    with ThreadPoolExecutor() as pool:
        made = [summary.made for summary in pool.map(lambda runner: runner.run(last="b"), runners)]
    assert toy.ran == ["a", "b"] and sorted(name for names in made for name in names) == ["a", "b"]
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "making").iterdir()) == ["a", "b"]
