"""The command prove through the real stages on a tiny log: the figures, what is found again, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics import auc_score
from ctr_kd.training.checkpoint import load_checkpoint
from pipelines.stages import student, transfer
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import read_predictions, stored_probabilities

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
KEEP_STUDENT = student.keep_student
TEACHER_STAGES = ("pretrain", "finetune", "teacher")


def latest(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "workspace" / "reports" / "latest" / "prove.json").read_text())


def manifests(folder: Path) -> list[dict[str, Any]]:
    """Manifests of the artifacts of a stage, by their seed."""
    return sorted((json.loads(file.read_text()) for file in folder.glob("*/_manifest.json")), key=lambda one: one["config"]["seed"])


def students_trained_from_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fingerprints of the students that are trained from now on, as they come."""
    trained: list[str] = []
    monkeypatch.setattr(
        student, "keep_student", lambda context, *rest: (trained.append(context.fingerprint), KEEP_STUDENT(context, *rest))[1]
    )
    return trained


def test_it_trains_pairs_and_variants_and_finds_them_again(experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = experiment("prove")
    assert code == 0, err
    proof = latest(tmp_path)
    assert out.splitlines()[0] == proof["verdict"]["sentence"]
    assert out.strip().endswith("reports/latest/prove.html")
    assert proof["seeds"] == [0, 1] and proof["run"]["trained"] == 6
    assert set(proof["models"]) == {"teacher", "student", "student_alone", "boosted_trees"}
    assert [len(proof["models"][name]["auc"]["seeds"]) for name in ("teacher", "student")] == [1, 2]
    assert set(proof["comparisons"]) == {"student-student_alone", "student-teacher", "teacher-student_alone", "student-boosted_trees"}
    assert [one["name"] for one in proof["ablation"]] == ["listwise term"]
    assert proof["models"]["student"]["rows_per_second"] > 0 and proof["models"]["teacher"]["rows_per_second_alone"] > 0
    folder = tmp_path / "workspace" / "reports" / "latest"
    assert "Proof of distillation" in (folder / "prove.html").read_text() and "Traceback" not in err

    # The figures are those of the stored logits: student alone with seed 1 is one of the artifacts.
    artifacts = list((tmp_path / "workspace" / "artifacts" / "student").iterdir())
    (ingest,) = (tmp_path / "workspace" / "artifacts" / "ingest").glob("*/_manifest.json")
    label = ClickRows(ingest.parent).read("test")["label"].to_numpy()
    aucs = [auc_score(label, stored_probabilities(path / "predictions_student_test.parquet")) for path in artifacts]
    assert len(artifacts) == 6
    found = [value for name in ("student", "student_alone") for value in proof["models"][name]["auc"]["seeds"]]
    assert all(np.isclose(value, aucs).any() for value in found)

    # Again: nothing is trained. Another seed: its three students alone.
    trained = students_trained_from_here(monkeypatch)
    assert experiment("prove")[1] == out and trained == []
    assert experiment("prove", "--seeds", "3")[0] == 0 and len(trained) == 3
    assert latest(tmp_path)["models"]["student"]["auc"]["seeds"][:2] == proof["models"]["student"]["auc"]["seeds"]


def test_each_of_several_teachers_stands_beside_the_student(experiment: Run, tmp_path: Path) -> None:
    settings = ("--seeds", "1", "--set", "prove.ablation=[]", "--set", "distill.teachers={bert: 0.5, boosted_trees: 0.5}")
    code, out, err = experiment("prove", *settings)
    assert code == 0, err
    proof = latest(tmp_path)
    (trees,) = (tmp_path / "workspace" / "artifacts" / "teacher").glob("*/predictions_teacher_boosted_trees_test.parquet")
    teacher = trees.parent  # beside that of the BERT alone, which the fixture made
    (ingest,) = (tmp_path / "workspace" / "artifacts" / "ingest").glob("*/_manifest.json")
    label = ClickRows(ingest.parent).read("test")["label"].to_numpy()
    for name in ("bert", "boosted_trees"):
        auc = auc_score(label, stored_probabilities(teacher / f"predictions_teacher_{name}_test.parquet"))
        assert np.isclose(proof["models"][f"teacher/{name}"]["auc"]["value"], auc)
        difference = proof["comparisons"][f"student-teacher/{name}"]["auc"]
        assert np.isclose(difference["difference"], proof["models"]["student"]["auc"]["value"] - auc)
        (line,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
        assert f"{auc:.4f}" in line and f"{difference['difference']:+.4f} [{difference['low']:+.4f}, " in line
    assert "Teacher boosted_trees" in (tmp_path / "workspace" / "reports" / "latest" / "prove.html").read_text()
    assert proof["models"]["boosted_trees"]["auc"] == proof["models"]["teacher/boosted_trees"]["auc"]  # they are not fitted again
    assert proof["comparisons"]["student-boosted_trees"]["auc"] == proof["comparisons"]["student-teacher/boosted_trees"]["auc"]


def test_boosted_trees_that_teach_nobody_stand_beside_the_student(experiment: Run, tmp_path: Path) -> None:
    settings = ("--seeds", "1", "--set", "prove.ablation=[]")
    code, out, err = experiment("prove", *settings)
    assert code == 0, err
    proof = latest(tmp_path)
    trees, difference = proof["models"]["boosted_trees"], proof["comparisons"]["student-boosted_trees"]["auc"]
    assert np.isclose(difference["difference"], proof["models"]["student"]["auc"]["value"] - trees["auc"]["value"])
    assert trees["library"] in ("lightgbm", "scikit-learn") and trees["rows_per_second"] > 0
    assert f"boosted trees ({trees['library']})" in proof["verdict"]["sentence"]
    (line,) = (line for line in out.splitlines() if line.startswith("boosted_trees "))
    assert f"{trees['auc']['value']:.4f}" in line and f"{difference['difference']:+.4f} [{difference['low']:+.4f}, " in line
    assert f"Boosted trees ({trees['library']})" in (tmp_path / "workspace" / "reports" / "latest" / "prove.html").read_text()
    code, _, err = experiment("prove", *settings, "--set", "evaluate.boosted_trees=false")
    assert code == 0, err
    assert "boosted_trees" not in latest(tmp_path)["models"]


def test_one_transfer_set_serves_all_seeds_and_is_labelled_by_the_teacher_of_the_run(experiment: Run, tmp_path: Path) -> None:
    settings = ("--set", "prove.ablation=[transfer]", "--set", "prove.amounts=[]", "--set", "distill.transfer.amount=0.5")
    code, _, err = experiment("prove", *settings, "--set", "distill.teachers={bert: 0.5, boosted_trees: 0.5}")
    assert code == 0, err
    assert [one["name"] for one in latest(tmp_path)["ablation"]] == ["no transfer set"]
    artifacts = tmp_path / "workspace" / "artifacts"
    (transfer,) = (artifacts / "transfer").iterdir()
    manifests = [json.loads(path.read_text()) for path in (artifacts / "student").glob("*/_manifest.json")]
    assert len(manifests) == 6
    assert [one["inputs"]["transfer"]["fingerprint"] for one in manifests if "transfer" in one["inputs"]] == [transfer.name] * 2
    row_id = pq.read_table(transfer / "transfer.parquet")["row_id"].to_numpy()
    assert len(row_id) and np.array_equal(read_predictions(transfer / "predictions_transfer.parquet", transfer.name)[0], row_id)


def test_the_student_by_the_amount_of_its_transfer_set(experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = students_trained_from_here(monkeypatch)
    settings = ("--set", "prove.ablation=[transfer]", "--set", "prove.amounts=[0.5, 1]", "--set", "distill.transfer.amount=0.5")
    code, out, err = experiment("prove", *settings)
    assert code == 0, err
    proof = latest(tmp_path)
    assert len(trained) == proof["run"]["trained"] == 8  # two seeds of student, alone, amount 0 (as in the ablation), amount 1
    points = proof["amounts"]["points"]
    assert [(one["amount"], one["configured"]) for one in points] == [(0.0, False), (0.5, True), (1.0, False)]
    assert proof["amounts"]["key"] == "distill.transfer.amount"
    assert [one["name"] for one in proof["ablation"]] == ["no transfer set"]
    assert points[0]["auc"] == proof["ablation"][0]["auc"] and points[1]["auc"] == proof["models"]["student"]["auc"]
    assert points[1]["against_student_alone"] == proof["comparisons"]["student-student_alone"]["auc"]
    made = {pq.read_metadata(file).num_rows for file in (tmp_path / "workspace" / "artifacts" / "transfer").glob("*/transfer.parquet")}
    assert points[0]["rows"] == 0 and {one["rows"] for one in points[1:]} == made  # made, not asked for
    assert points[1]["against_student"]["difference"] == 0 and points[0]["against_student"] == proof["ablation"][0]["against_student"]
    kept = [json.loads((path / "_manifest.json").read_text()) for path in (tmp_path / "workspace" / "artifacts" / "student").iterdir()]
    ones = [one["facts"]["auc"] for one in kept if one["config"]["distill.transfer"]["amount"] == 1]
    assert len(ones) == 2 and np.isclose(points[2]["validation_auc"], np.mean(ones))
    (line,) = (line for line in out.splitlines() if line.startswith("0.5 (configured)"))
    assert f"{points[1]['auc']['value']:.4f}" in line and line.endswith(f"{points[1]['validation_auc']:.4f}")
    assert "The transfer set by its amount" in (tmp_path / "workspace" / "reports" / "latest" / "prove.html").read_text()


def test_the_pipeline_and_a_proof_end_in_the_same_students(experiment: Run, tmp_path: Path) -> None:
    """With several teachers and a transfer set."""
    keys = ("teachers={bert: 0.5, boosted_trees: 0.5}", "transfer.amount=0.5", "listwise=0.2")
    settings = [part for key in keys for part in ("--set", f"distill.{key}")]
    for command in (("distill",), ("prove", "--seeds", "1", "--set", "prove.ablation=[]")):
        code, _, err = experiment(*command, *settings)
        assert code == 0, err

    def weights(file: Path) -> np.ndarray:
        state = load_checkpoint(file, file.parent.name)["model"]
        return np.concatenate([value.numpy().ravel() for value in state.values()])

    artifacts = tmp_path / "workspace" / "artifacts"
    (pipeline,) = (path.parent for path in (artifacts / "distill").glob("*/student.pt"))
    proven = [weights(file) for file in (artifacts / "student").glob("*/student.pt")]
    assert len(proven) == 2
    for name in ("student", "student_alone"):
        assert sum(np.array_equal(weights(pipeline / f"{name}.pt"), one) for one in proven) == 1


def test_a_proof_that_was_stopped_goes_on(experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def stop_at_the_third(context: Any, *rest: Any) -> dict[str, Any]:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(context.fingerprint)
        return KEEP_STUDENT(context, *rest)

    monkeypatch.setattr(student, "keep_student", stop_at_the_third)
    code, _, err = experiment("prove")
    assert code == 1 and "run the same command again to continue" in err.strip().splitlines()[-1]
    assert not (tmp_path / "workspace" / "reports").exists()
    again = students_trained_from_here(monkeypatch)
    assert experiment("prove")[0] == 0
    assert len(again) == 4 and not set(again) & set(trained)
    assert latest(tmp_path)["run"]["trained"] == 6


def test_a_stop_while_the_transfer_set_is_labelled_leaves_none_and_force_keeps_a_whole_one(
    experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--seeds", "1", "--set", "prove.ablation=[]", "--set", "distill.transfer.amount=0.5")
    artifacts, real = tmp_path / "workspace" / "artifacts", transfer.transfer_rows

    def stop_when_drawn(*arguments: Any) -> Any:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "transfer_rows", stop_when_drawn)
    code, _, err = experiment("prove", *settings)
    assert code == 1 and "run the same command again to continue" in err.strip().splitlines()[-1]
    assert not list((artifacts / "transfer").glob("*/_manifest.json")) and not list((artifacts / "student").glob("*/_manifest.json"))

    monkeypatch.setattr(transfer, "transfer_rows", real)
    assert experiment("prove", *settings)[0] == 0
    proof = latest(tmp_path)
    (labelled,) = (artifacts / "transfer").glob("*/_manifest.json")
    before, trained = labelled.read_bytes(), students_trained_from_here(monkeypatch)
    assert experiment("prove", *settings, "--force")[0] == 0
    assert len(trained) == 2 and labelled.read_bytes() == before
    assert latest(tmp_path)["models"]["student"]["auc"] == proof["models"]["student"]["auc"]


def test_several_teachers_differ_in_their_seed_alone_and_a_stopped_proof_goes_on(
    experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--set", "distill.teachers={bert: 0.5, boosted_trees: 0.5}", "--set", "distill.transfer.amount=0.5")
    trained: list[str] = []

    def stop_under_the_second_teacher(context: Any, *rest: Any) -> Any:
        if len(trained) == 7:
            raise KeyboardInterrupt
        trained.append(context.fingerprint)
        return KEEP_STUDENT(context, *rest)

    monkeypatch.setattr(student, "keep_student", stop_under_the_second_teacher)
    assert experiment("prove", "--teachers", "2", *settings)[0] == 1
    artifacts = tmp_path / "workspace" / "artifacts"
    chain = {file: file.read_bytes() for stage in TEACHER_STAGES for file in (artifacts / stage).glob("*/_manifest.json")}
    again = students_trained_from_here(monkeypatch)
    code, out, err = experiment("prove", "--teachers", "2", *settings)
    assert code == 0, err
    assert len(again) == 1 and not set(again) & set(trained)
    assert all(file.read_bytes() == content for file, content in chain.items())

    # Two teachers, of which all but the seed is the same; the student alone and the ablation are trained under the first.
    (ingest,) = (artifacts / "ingest").glob("*/_manifest.json")
    made = {stage: manifests(artifacts / stage) for stage in TEACHER_STAGES}
    made["teacher"] = [one for one in made["teacher"] if len(one["config"]["distill.teachers"]) == 2]  # beside that of the fixture
    for stage, found in made.items():
        assert [one["config"].pop("seed") for one in found] == [0, 1], stage
        assert found[0]["config"] == found[1]["config"]
        assert all(one["inputs"]["ingest"]["fingerprint"] == ingest.parent.name for one in found)
    by_teacher = [
        [one["config"] for one in manifests(artifacts / "student") if one["inputs"]["teacher"]["fingerprint"] == teacher]
        for teacher in (one["fingerprint"] for one in made["teacher"])
    ]
    assert [len(found) for found in by_teacher] == [6, 2]
    assert [(one["seed"], one["distill.alpha"], one["distill.listwise"]) for one in by_teacher[1]] == [(0, 0.5, 0.0), (1, 0.5, 0.0)]

    # The figures are those of the stored logits.
    proof, folder = latest(tmp_path), tmp_path / "workspace" / "reports" / "latest"
    label = ClickRows(ingest.parent).read("test")["label"].to_numpy()
    for name, file in (("teacher", "predictions_test"), ("teacher/boosted_trees", "predictions_teacher_boosted_trees_test")):
        files = [artifacts / "teacher" / one["fingerprint"] / f"{file}.parquet" for one in made["teacher"]]
        aucs = [auc_score(label, stored_probabilities(one)) for one in files]
        assert proof["models"][name]["auc"]["teachers"] == pytest.approx(aucs)
        assert proof["models"][name]["auc"]["value"] == pytest.approx(np.mean(aucs))
        assert proof["models"][name]["auc"]["teachers_std"] == pytest.approx(np.std(aucs, ddof=1))
    assert (proof["seeds"], proof["teacher_seeds"], proof["run"]["trained"]) == ([0, 1], [0, 1], 8)
    assert proof["interval_covers"] == ["users", "student seeds", "teacher seeds"]
    ours, alone = (proof["models"][name]["auc"]["by_teacher"] for name in ("student", "student_alone"))
    assert np.shape(ours) == (2, 2) and np.shape(alone) == (1, 2) and ours[0] != ours[1]
    gains = proof["comparisons"]["student-student_alone"]["auc"]
    np.testing.assert_allclose(gains["by_teacher"], np.subtract(ours, alone))
    assert "student seeds and teacher seeds." in out.splitlines()[1] and "Teacher by teacher" in (folder / "prove.html").read_text()
    assert f"standard deviation{proof['models']['teacher']['auc']['teachers_std']:>19.4f}" in out

    # One teacher of the two: the same students, and intervals that say what they leave out.
    code, out, err = experiment("prove", *settings)
    assert code == 0, err
    one = latest(tmp_path)
    assert len(again) == 1 and one["models"]["student"]["auc"]["seeds"] == ours[0] and one["ablation"] == proof["ablation"]
    assert one["under_first_teacher"]["auc"] == proof["under_first_teacher"]["auc"] == one["models"]["student"]["auc"]
    assert out.splitlines()[1].endswith("they leave out what another teacher would give.") and "teacher seed" not in out
    assert "Teacher by teacher" not in (folder / "prove.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--seeds", "0"), "0 is not in the range 1<=x<=100"),
        (("--teachers", "0"), "0 is not in the range 1<=x<=100"),
        (("--set", "prove.ablation=[softness]"), "prove.ablation"),
        (("--set", "prove.seed=3"), "prove.seed: unknown key; did you mean 'seeds'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(experiment: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = experiment("prove", *arguments)
    assert code == 2
    assert expected in err.strip().splitlines()[-1]
