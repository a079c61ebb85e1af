"""The command tune through real trainings on a tiny log: what is tried, kept and written, and what is said of what cannot be."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.run import load, with_changes
from pipelines.experiments.tuning import workers
from pipelines.tasks.click_rows import ClickRows
from pipelines.training.facts import DistillationFacts
from pipelines.workspace.lock import workspace_lock
from tests.pipelines.experiments.tuning.processes import work_badly
from tests.pipelines.experiments.tuning.world import LOG, write_log
from tests.programs import Program, read_or_empty, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_processes")]

Run = Callable[..., tuple[int, str, str]]
RATE = "distill.training.learning_rate"
SLOW = ("--set", f"{RATE}=1e-7")  # as configured it learns nothing, so whatever learns is better
SPACE = f"tune.space={{{RATE}: {{low: 1e-7, high: 0.05, log: true}}, distill.alpha: {{low: 0.1, high: 0.9}}}}"
SMALL = ("--set", SPACE, "--set", "tune.finalists=1", "--set", "tune.seeds=1")


@pytest.fixture
def no_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main process judges without a look at a test row; that trials do too, tuning/test_trials.py says."""
    read = ClickRows.read

    def guarded(self: ClickRows, split: str, *which: Any, **how: Any) -> Any:
        assert split != "test", "a test row was read"
        return read(self, split, *which, **how)

    monkeypatch.setattr(ClickRows, "read", guarded)


def found(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "workspace" / "reports" / "tune" / "tune.json").read_text())


def test_what_wins_is_written_with_what_mattered_and_gives_the_same_again(experiment: Run, tmp_path: Path) -> None:
    conf, tuned = tmp_path / "tiny.yaml", tmp_path / "tiny.tuned.yaml"
    shutil.rmtree(tmp_path / "workspace")
    data = ("--data", str(write_log(tmp_path / "log", flipped=False)))
    conf.write_text("# mine" + LOG)
    long = ("distill.training.epochs=10", "tune.trials=6")
    arguments = ("tune", "--budget", "20m", *data, *SLOW, *SMALL, "--set", long[0], "--set", long[1])
    code, out, err = experiment(*arguments)
    assert code == 0, err
    result = found(tmp_path)
    assert [one["configured"] for one in result["trials"]] == [True, False, False, False, False, False]
    assert result["trials"][0]["made"] == ["pretrain", "finetune", "teacher", "student"]
    assert all(one["made"] == ["student"] for one in result["trials"][1:] if one["state"] == "trained")
    assert len(list((tmp_path / "workspace" / "artifacts" / "finetune").iterdir())) == 2  # of the search, and of the finals
    assert result["winner"] and out.startswith(f"Trial {result['winner']} replaces the configuration: its student has +")
    assert set(result["importance"]) == {RATE, "distill.alpha"} and sum(result["importance"].values()) == pytest.approx(1)
    page = (tmp_path / "workspace" / "reports" / "tune" / "tune.html").read_text()
    assert "Every trial" in page and RATE in page and out.strip().endswith("reports/tune/tune.html")

    # The file: the user's own text with the values, under the same name, and nothing of the test rows.
    text = tuned.read_text()
    assert "# mine\n" in text and "Validation only: no test row was read" in text
    assert re.search(rf"^# {RATE} +{result['importance'][RATE]:.2f}$", text, re.MULTILINE) and result["verdict"] in text
    own = load(conf, (*SLOW[1::2], *SMALL[1::2], *long))
    won = next(one for one in result["trials"] if one["number"] == result["winner"])
    assert load(tuned) == with_changes(own, won["changes"], "test") and load(tuned).name == "tiny"

    # Again: nothing is trained, the same is said, and a file that was edited is not replaced.
    kept = sorted(path.name for path in (tmp_path / "workspace" / "artifacts" / "student").iterdir())
    assert experiment(*arguments)[1] == out
    assert sorted(path.name for path in (tmp_path / "workspace" / "artifacts" / "student").iterdir()) == kept
    again = tuned.read_text()
    tuned.write_text(again.replace("# mine", "# mine, and good"))
    code, _, err = experiment(*arguments)
    assert code == 2 and "tiny.tuned.yaml was not written by tune, or was edited since: move it away" in err.splitlines()[-1]
    tuned.write_text(again)

    # The pipeline of the tuned file has the very student of the trial.
    conf.write_text(again)
    code, _, err = experiment("distill", *data)
    assert code == 0, err
    (distilled,) = (tmp_path / "workspace" / "artifacts" / "distill").iterdir()
    assert DistillationFacts.read(distilled).student.curve.kept_figure[1] == pytest.approx(won["value"], abs=1e-6)


@pytest.mark.usefixtures("no_test_rows")
def test_a_trial_that_diverges_is_recorded_and_the_search_goes_on(experiment: Run, tmp_path: Path) -> None:
    space = f"tune.space={{{RATE}: {{choices: [2.0e-3, 1.0e+20]}}, distill.alpha: {{choices: [0.5, 0.3]}}}}"
    configured = ("--set", f"{RATE}=2.0e-3")  # in the space, so that the first trial is one of the four
    code, _, err = experiment("tune", "--budget", "20m", *SMALL, *configured, "--set", space, "--set", "tune.pruner=none")
    assert code == 0, err
    trials = found(tmp_path)["trials"]
    diverged = [one for one in trials if one["changes"].get(RATE) == 1e20]
    assert len(trials) == 4 and len(diverged) == 2  # all that there is, each once
    assert {one["state"] for one in diverged} == {"failed"} and all("is not finite at step" in one["reason"] for one in diverged)
    assert {one["state"] for one in trials if one not in diverged} == {"trained"}


def test_a_process_that_is_killed_or_out_of_memory_ends_its_trial_alone(
    experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "work", work_badly)
    code, _, err = experiment("tune", "--budget", "20m", *SMALL, "--set", "tune.trials=5", "--set", "tune.pruner=none", "--processes", "2")
    assert code == 0, err
    trials = found(tmp_path)["trials"]
    assert [one["state"] for one in trials] == ["trained", "failed", "failed", "trained", "trained"]
    assert trials[1]["reason"] == "its process was killed by SIGKILL, as systems do with what runs out of memory"
    assert trials[2]["reason"].startswith("not enough memory")
    assert "killed by SIGKILL" in (tmp_path / "workspace" / "reports" / "tune" / "tune.html").read_text()


def test_a_search_that_was_killed_in_a_trial_goes_on(experiment: Run, tmp_path: Path) -> None:
    arguments = ["--budget", "20m", *SLOW, *SMALL, "--set", "tune.trials=5", "--set", "tracking.uri=http://127.0.0.1:9"]
    command = ["tune", str(tmp_path / "tiny.yaml"), "--workspace", str(tmp_path / "workspace"), *arguments]
    killed = Program(*command)
    said = Path(killed._written[1])
    wait_until(lambda: "trial 2, student: student" in read_or_empty(str(said)), "trial 2 never began")
    began = re.findall(r"as configured has auc (\S+)|trial 1 has auc (\S+)", said.read_text(encoding="utf-8"))
    os.kill(killed.process.pid or 0, signal.SIGKILL)
    assert killed.end().code == -signal.SIGKILL
    code, _, err = experiment(*command[:1], *arguments)
    assert code == 0, err
    trials = found(tmp_path)["trials"]
    assert "tune: goes on with 2 trials" in err and len(trials) == 5
    assert [f"{one['value']:.4f}" for one in trials[:2]] == [first or second for first, second in began]
    assert [one["number"] for one in trials] == [0, 1, 3, 4, 5], "what was under way goes on under another number"


def test_a_budget_for_less_than_a_trial_is_too_small_and_a_larger_one_goes_on(experiment: Run, tmp_path: Path) -> None:
    code, _, err = experiment("tune", "--budget", "1s", *SMALL)
    assert code == 2 and "--budget 1s is too small" in err.splitlines()[-1] and not (tmp_path / "tiny.tuned.yaml").exists()
    code, _, err = experiment("tune", "--budget", "20m", *SMALL, "--set", "tune.trials=2")
    assert code == 0, err
    assert [one["state"] for one in found(tmp_path)["trials"]] == ["trained", "trained"]


def test_a_validation_window_of_one_class_tells_no_trials_apart(experiment: Run, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "workspace")
    (tmp_path / "tiny.yaml").write_text(LOG)
    code, _, err = experiment("tune", "--budget", "20m", "--data", str(write_log(tmp_path / "log", quiet=True)))
    assert code == 3 and "the validation split" in err and "has no click among its 240 rows; widen it" in err.splitlines()[-1]


def test_a_second_tuner_waits_or_goes_elsewhere(experiment: Run, tmp_path: Path) -> None:
    with workspace_lock(tmp_path / "workspace", "ctr-kd tune tiny.yaml"):
        code, _, err = experiment("tune", "--budget", "20m")
    assert code == 5 and "is in use by process" in err and "(ctr-kd tune tiny.yaml)" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "tune.space={distill.alpa: {low: 0, high: 1}}"), "tune.space: distill.alpa: unknown key; did you mean 'alpha'?"),
        (("--set", "tune.space={distill.alpha: {low: 0.5, high: 0.5}}"), "distill.alpha: the range is empty: low (0.5) must be below"),
        (("--set", "tune.space={distill.alpha: {low: 0.5, high: 1.5}}"), "tune.space: distill.alpha: should be less than or equal to 1"),
        (("--set", "tune.space={distill.student.kind: {choices: [pooled, pool]}}"), "tune.space: distill.student.kind"),
        (("--set", "tune.space={split.fractions: {choices: [[0.5, 0.3, 0.2], [0.6, 0.2, 0.2]]}}"), "split.fractions decides which rows"),
        (("--set", "tune.space={evaluate.seed: {low: 0, high: 3}}"), "tune.space: no student learns from evaluate.seed"),
        (("--set", "tune.trials=0"), "tune.trials"),
        (("--until", "finetune"), "leave out --from and --until"),
        (("--budget", "soon"), "'soon' is not a duration"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(experiment: Run, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = experiment("tune", "--budget", "20m", *arguments)
    assert code == 2 and expected in err.strip().splitlines()[-1]
    assert not (tmp_path / "workspace" / "tune").exists()


def test_without_optuna_one_line_says_what_to_install(experiment: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = experiment("tune", "--budget", "20m")
    assert code == 2 and "needs Optuna, which is not installed: pip install" in err.splitlines()[-1]
