"""Arms of a proof: what may be changed, what is trained and shared, and that all are measured on the very same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ctr_kd.metrics import auc_score
from pipelines.config.run import RunConfig, load
from pipelines.errors import ConfigError
from pipelines.experiments import arms as module
from pipelines.experiments.arms import arms_of
from pipelines.stages import student
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import stored_probabilities

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
KEEP_STUDENT = student.keep_student
SHORT, TREES, LABELS = "short histories", "two teachers", "mostly labels"
ARMS = {
    SHORT: "{history.max_length: 2}",
    TREES: "{distill.teachers: {bert: 0.5, boosted_trees: 0.5}}",
    LABELS: "{distill.alpha: 0.9}",
}


def arms(*names: str) -> tuple[str, ...]:
    """The command line of these arms, and of no ablation."""
    listed = ", ".join(f"{{name: {name}, set: {ARMS[name]}}}" for name in names)
    return ("--set", "prove.ablation=[]", "--set", f"prove.arms=[{listed}]")


def latest(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "workspace" / "reports" / "latest" / "prove.json").read_text())


def students_trained_from_here(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Fingerprints of the students that are trained from now on, as they come; the run is killed after so many."""
    trained: list[str] = []

    def keep(context: Any, *rest: Any) -> Any:
        if len(trained) == stop_after:
            raise KeyboardInterrupt
        trained.append(context.fingerprint)
        return KEEP_STUDENT(context, *rest)

    monkeypatch.setattr(student, "keep_student", keep)
    return trained


def manifests(artifacts: Path, stage: str) -> dict[str, dict[str, Any]]:
    return {file.parent.name: json.loads(file.read_text()) for file in (artifacts / stage).glob("*/_manifest.json")}


def test_an_arm_trains_what_its_keys_touch_and_shares_the_rest(experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = students_trained_from_here(monkeypatch)
    code, out, err = experiment("prove", *arms(SHORT, TREES, LABELS))
    assert code == 0, err
    proof, artifacts = latest(tmp_path), tmp_path / "workspace" / "artifacts"

    # Two seeds: student and alone of the run; both of the arm with other rows; the student of the two arms with the same.
    assert len(trained) == proof["run"]["trained"] == 4 + 4 + 2 + 2
    assert {stage: len(manifests(artifacts, stage)) for stage in ("ingest", "pretrain", "finetune", "teacher")} == {
        "ingest": 2,
        "pretrain": 2,
        "finetune": 2,
        "teacher": 3,
    }
    found = {one["name"]: one for one in proof["arms"]}
    assert list(found) == [SHORT, TREES, LABELS]
    assert found[SHORT]["set"] == {"history.max_length": 2} and not any(one["privileged"] for one in proof["arms"])
    alone = proof["models"]["student_alone"]["auc"]
    assert found[TREES]["models"]["student_alone"]["auc"] == found[LABELS]["models"]["student_alone"]["auc"] == alone
    assert found[SHORT]["models"]["student_alone"]["auc"]["seeds"] != alone["seeds"]
    assert found[LABELS]["models"]["teacher"]["auc"]["value"] == proof["models"]["teacher"]["auc"]["value"]
    assert found[TREES]["models"]["teacher"]["auc"]["value"] != proof["models"]["teacher"]["auc"]["value"]

    # The figures are those of the stored logits, and every pair is of one seed.
    made = manifests(artifacts, "student")
    for name, key, value in ((SHORT, "history.max_length", 2), (LABELS, "distill.alpha", 0.9)):
        own = sorted(
            (one["config"]["seed"], fingerprint)
            for fingerprint, one in made.items()
            if one["config"][key] == value and one["config"]["distill.alpha"] != 1
        )
        (ingest,) = {made[fingerprint]["inputs"]["ingest"]["fingerprint"] for _, fingerprint in own}
        label = ClickRows(artifacts / "ingest" / ingest).read("test")["label"].to_numpy()
        aucs = [
            auc_score(label, stored_probabilities(artifacts / "student" / fingerprint / "predictions_student_test.parquet"))
            for _, fingerprint in own
        ]
        assert found[name]["models"]["student"]["auc"]["seeds"] == pytest.approx(aucs)
        gains = np.subtract(aucs, proof["models"]["student"]["auc"]["seeds"])
        assert found[name]["comparisons"]["student-configured"]["auc"]["seeds"] == pytest.approx(gains)
        lead = found[name]["comparisons"]["student-student_alone"]["auc"]
        assert lead["seeds"] == pytest.approx(np.subtract(aucs, found[name]["models"]["student_alone"]["auc"]["seeds"]))
        assert lead["low"] <= lead["difference"] <= lead["high"]
    for one in proof["arms"]:
        assert one["models"]["student"]["rows_per_second"] > 0 and one["models"]["student"]["bytes"] > 0
        assert one["transfer_ratio_interval"]["value"] in (None, pytest.approx(one["transfer_ratio"]))

    page = (tmp_path / "workspace" / "reports" / "latest" / "prove.html").read_text()
    lines = [line for line in out.splitlines() if line.startswith(("as configured", SHORT, TREES, LABELS))]
    assert [line.split("  ")[0] for line in lines] == ["as configured", SHORT, TREES, LABELS]
    difference = found[SHORT]["comparisons"]["student-configured"]["auc"]
    assert f"{difference['difference']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]" in lines[1]
    assert "Arm by arm" in page and "history.max_length: 2" in page and "as configured" in page

    # Again, and with an arm fewer: nothing is trained.
    again = students_trained_from_here(monkeypatch)
    assert experiment("prove", *arms(SHORT, TREES, LABELS))[1] == out
    assert experiment("prove", *arms(SHORT))[0] == 0 and again == []
    (left,) = latest(tmp_path)["arms"]
    assert left["comparisons"] == found[SHORT]["comparisons"]


def test_a_proof_of_arms_under_two_teachers_goes_on_where_it_was_stopped(
    experiment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--seeds", "1", "--teachers", "2", *arms(SHORT))
    trained = students_trained_from_here(monkeypatch, stop_after=4)  # of six: three of the run, three of the arm
    code, _, err = experiment("prove", *settings)
    assert code == 1 and "run the same command again to continue" in err.strip().splitlines()[-1]
    again = students_trained_from_here(monkeypatch)
    code, _, err = experiment("prove", *settings)
    assert code == 0, err
    assert len(again) == 2 and not set(again) & set(trained)
    (arm,) = latest(tmp_path)["arms"]
    assert np.shape(arm["models"]["student"]["auc"]["by_teacher"]) == (2, 1)
    assert np.shape(arm["models"]["student_alone"]["auc"]["by_teacher"]) == (1, 1)
    ours = latest(tmp_path)["models"]["student"]["auc"]["by_teacher"]
    expected = np.subtract(arm["models"]["student"]["auc"]["by_teacher"], ours)
    assert arm["comparisons"]["student-configured"]["auc"]["by_teacher"] == [pytest.approx(one) for one in expected]


def test_an_arm_with_other_test_rows_is_refused_before_it_trains(experiment: Run, tmp_path: Path) -> None:
    listed = "prove.arms=[{name: known users, set: {history.min_length: 1}}]"
    code, _, err = experiment("prove", "--seeds", "1", "--set", "prove.ablation=[]", "--set", listed)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert "arm 'known users' has other test rows than the run" in last and "it changes history.min_length" in last
    assert len(list((tmp_path / "workspace" / "artifacts" / "pretrain").glob("*/_manifest.json"))) == 1
    assert not (tmp_path / "workspace" / "reports").exists()


def test_rows_are_the_same_when_user_item_time_and_label_are(make_assembly: Callable[[Path], None], tmp_path: Path) -> None:
    """Codes mean nothing: two assemblies may number their users otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folders = [tmp_path / name for name in ("one", "renumbered", "other")]
    for folder in folders:
        make_assembly(folder)
    one, renumbered, other = folders
    users, rows = pq.read_table(one / "users.parquet"), pq.read_table(one / "rows.parquet")
    pq.write_table(users.set_column(1, "user_id", pa.array(users["user_id"].to_pylist()[::-1])), renumbered / "users.parquet")
    swapped = pa.array(19 - rows["user"].to_numpy(), pa.int32())
    pq.write_table(rows.set_column(rows.column_names.index("user"), "user", swapped), renumbered / "rows.parquet")
    flipped = pa.array(np.where(np.arange(rows.num_rows) == rows.num_rows - 1, 1 - rows["label"].to_numpy(), rows["label"].to_numpy()))
    pq.write_table(rows.set_column(rows.column_names.index("label"), "label", flipped.cast(pa.int8())), other / "rows.parquet")
    ours = ClickRows(one).identities("test")
    assert set(ours.column_names) == {"row_id", "user_id", "item_id", "timestamp", "label"} and ours.num_rows == 300
    assert ClickRows(renumbered).identities("test").equals(ours)
    assert not ClickRows(other).identities("test").equals(ours)


def configured(yaml_file: Callable[[str], Path], *listed: str) -> RunConfig:
    return load(yaml_file(f"prove: {{arms: [{', '.join(listed)}]}}"))


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("{name: x, set: {distill.alpah: 0.3}}", "prove.arms: arm 'x': distill.alpah: unknown key; did you mean 'alpha'?"),
        ("{name: x, set: {distil.alpha: 0.3}}", "prove.arms: arm 'x': distil: unknown key; did you mean 'distill'?"),
        ("{name: x, set: {distill.alpha: 3}}", "prove.arms: arm 'x': distill.alpha: should be less than or equal to 1, not 3"),
        ("{name: x, set: {distill.alpha.more: 3}}", "arm 'x': distill.alpha"),
        ("{name: x, set: {distill..alpha: 3}}", "arm 'x': 'distill..alpha' is no dotted key"),
        ("{name: x, set: {split.fractions: [0.5, 0.2, 0.3]}}", "arm 'x': split.fractions decides which rows are tested"),
        ("{name: x, set: {candidates: {}}}", "arm 'x': candidates decides which rows are tested"),
        ("{name: x, set: {source.simulator.users: 9}}", "arm 'x': source.simulator.users decides which rows are tested"),
        ("{name: x, set: {seed: 3}}", "arm 'x': no student learns from seed; what may change is distill, embeddings, finetune, "),
        ("{name: x, set: {prove.seeds: 3}}", "arm 'x': no student learns from prove.seeds"),
        ("{name: x, set: {distill.ship: alone}}", "arm 'x' is the run as it is configured"),
        ("{name: x, set: {distill.alpha: 0.5}}", "arm 'x' is the run as it is configured"),
        ("{name: x, set: {labels.chain: true}}", "arm 'x': labels.chain is about labels beside the click"),
    ],
)
def test_what_an_arm_may_not_change_is_said_by_its_name(yaml_file: Callable[[str], Path], arm: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        arms_of(configured(yaml_file, arm))
    (line,) = str(refused.value).splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (("{name: x, set: {distill.alpha: 0.3}}", "{name: x, set: {distill.alpha: 0.4}}"), "there are two called 'x'"),
        (("{name: '', set: {distill.alpha: 0.3}}",), "name"),
        (("{name: x}",), "set"),
        (("{name: x, set: {}}",), "set"),
    ],
)
def test_a_list_of_arms_that_is_none_is_refused_with_the_file(yaml_file: Callable[[str], Path], listed: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(yaml_file, *listed)
    assert "demo.yaml:3: prove" in str(refused.value) and said in str(refused.value)


def test_an_arm_sets_one_key_of_a_block_and_keeps_the_others(yaml_file: Callable[[str], Path]) -> None:
    """Also where the block's own default is not that of its class, as the batch size of pretraining."""
    plain = load(yaml_file())
    (arm,) = arms_of(configured(yaml_file, "{name: longer, set: {pretrain.training.epochs: 9}}"))
    expected = plain.pretrain.training.model_copy(update={"epochs": 9})
    assert arm.config.pretrain.training == expected and arm.config.distill == plain.distill


SHOP = """
source:
  reader: tabular
  events: {path: "*.csv", user: u, item: i, time: t, clicked: c}
  context: {dense: [position]}
split: {fractions: [0.8, 0.1, 0.1]}
"""


def test_an_arm_whose_student_sees_less_has_a_student_alone_of_its_own(tmp_path: Path) -> None:
    """The rows are the same; the student alone of the run reads a column that those of the arm do not."""
    conf = tmp_path / "shop.yaml"
    conf.write_text(SHOP)
    run: Any = SimpleNamespace(artifacts={"ingest": SimpleNamespace(path=Path("rows"))})
    own = load(conf)
    hidden, later, weight = (
        load(conf, [one]) for one in ("teacher_only.context=[position]", "teacher_only.future_clicks=3", "distill.alpha=0.3")
    )
    alone = module._alone_of(run, own)
    assert module._alone_of(run, hidden) != alone
    assert module._alone_of(run, later) == module._alone_of(run, weight) == alone  # which students do not see


def test_a_teacher_whose_column_the_rows_lack_is_no_arm(tmp_path: Path) -> None:
    conf = tmp_path / "shop.yaml"
    conf.write_text(SHOP + "prove: {arms: [{name: production, set: {distill.teachers: [{name: production, scores: {column: p}}]}}]}")
    with pytest.raises(ConfigError, match=r"arm 'production': .* name that in the run's source\.events\.scores"):
        arms_of(load(conf))
    arms_of(load(conf, ["source.events.scores={p: null}"]))
