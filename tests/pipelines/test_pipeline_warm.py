"""Warm nights from the raw log to the registry: what they learn, what they continue, and what they do where they cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.workspace.parent import Parent
from tests.pipelines.test_pipeline_embeddings import write_log
from tests.pipelines.tiny_workspace import Workspace
from tests.programs import run_program

pytestmark = pytest.mark.slow
CONF = """
source:
  reader: tabular
  events: {path: "*.parquet", user: user, item: item, time: time, clicked: clicked, request: request}
split: {train: 40h, validation: 10h, test: 10h}
history: {max_length: 6}
vocabulary: {min_count: 1}
statistics: {auto: false}
training: {start: warm}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-2, checkpoint_seconds: 0.01}}
distill: {teachers: {bert: 1},
  student: {width: 4, hidden: 8}, training: {epochs: 4, batch_size: 64, learning_rate: 1.0e-2, checkpoint_seconds: 0.01}}
evaluate: {bootstrap: 20, boosted_trees: false, importance_rows: 0}
register: {auc_min: 0, calibration_error_max: 1, champion_margin: 1, log_loss_margin: 9}
"""
FIRST, SECOND, THIRD = (("--as-of", moment) for moment in ("2024-01-04T08:00", "2024-01-04T18:00", "2024-01-05T04:00"))
INGEST = ("--until", "ingest")


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workspace:
    """A champion of a cold night, and the clicks of the next one in the log."""
    folder = tmp_path_factory.mktemp("warm")
    made = Workspace.new(folder / "workspace", mlflow_database)
    made.conf.write_text(CONF)
    (folder / "data").mkdir()
    write_log(folder / "data" / "events-0.parquet", range(1000))
    # at the end of the second night's window of training a new item is clicked
    file = folder / "data" / "events-0.parquet"
    log = pq.read_table(file)
    item = [
        "new" if 610 <= request < 650 and one == 15 else str(one)
        for request, one in zip(log["request"].to_pylist(), log["item"].to_pylist(), strict=True)
    ]
    pq.write_table(log.set_column(log.schema.get_field_index("item"), "item", pa.array(item)), file)
    _, said = made.run("run", "--data", str(folder / "data"), *FIRST, "--until", "register")
    assert "a cold start: there is no champion yet" in said
    return made


@pytest.fixture
def workspace(first_night: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(first_night.path.with_name("data"), tmp_path / "data")
    copy = first_night.copy(tmp_path / "workspace")
    copy.conf.write_text(CONF)
    return copy


def data(workspace: Workspace) -> tuple[str, str]:
    return "--data", str(workspace.path.with_name("data"))


def warm_rows(workspace: Workspace) -> Path:
    (parent,) = workspace.path.glob("artifacts/ingest/*/parent.json")
    return parent.parent


def cold_rows(workspace: Workspace) -> Path:
    (found,) = (
        path.parent for path in workspace.path.glob("artifacts/ingest/*/rows.parquet") if not (path.parent / "parent.json").exists()
    )
    return found


def test_a_warm_night_learns_what_is_new(workspace: Workspace) -> None:
    before = cold_rows(workspace)
    _, said = workspace.run("run", *data(workspace), *SECOND)
    assert "continues version 1, whose training ended 2024-01-03 12:00: warm night 1" in said
    assert "version 2 is champion in place of version 1" in said
    folder = warm_rows(workspace)
    parent = Parent.read(folder)
    assert parent.name == "version 1" and parent.nights == 1 and parent.late == []
    train = pq.read_table(folder / "rows.parquet", filters=[("split", "=", "train")])
    new = sum(time >= int(parent.since.timestamp() * 1e6) for time in train["timestamp"].to_pylist())
    assert new == 200 and 140 < train.num_rows - new < 260  # of 100 requests, and by chance as many of 300 older ones

    vocabulary, known = (json.loads((one / "vocabulary.json").read_text())["item"] for one in (folder, before))
    assert vocabulary[: len(known)] == known and vocabulary[len(known) :] == ["new"]
    assert (folder / "bins.json").read_bytes() == (before / "bins.json").read_bytes()
    metrics = json.loads((workspace.path / "reports" / "latest" / "metrics.json").read_text())
    newest = [json.loads(file.read_text()) for file in workspace.path.glob("artifacts/register/*/model/**/lineage.json")]
    assert {one["parent"] and one["parent"]["name"] for one in newest} == {None, "version 1"}
    assert metrics["run"]["parent"]["artifacts"]["pretrain"]["fingerprint"]

    # what trains knows what it continues: the parents are among the inputs
    for stage in ("ingest", "pretrain", "finetune", "distill"):
        of_parent = parent.artifacts[stage].fingerprint
        manifests = [json.loads(file.read_text()) for file in workspace.path.glob(f"artifacts/{stage}/*/_manifest.json")]
        assert sum(f"{stage}/{of_parent}" in one["inputs"] for one in manifests) == 1
    out, _ = workspace.run("run", *data(workspace), *SECOND)
    assert "nothing to do" in out

    # a third night continues the second, and nothing that it was made of is pruned
    _, said = workspace.run("run", *THIRD, *data(workspace), *INGEST)
    assert "continues version 2, whose training ended 2024-01-03 22:00: warm night 2" in said
    workspace.run("prune", *THIRD, "--keep", "1", "--days", "0")
    assert all(parent.folder(workspace.path, stage).is_dir() for stage in parent.artifacts)


def test_a_killed_warm_night_ends_as_one_that_was_not(workspace: Workspace, tmp_path: Path) -> None:
    other = workspace.copy(tmp_path / "other")
    other.conf.write_text(CONF)
    until = (*data(workspace), *SECOND, "--until", "distill")
    workspace.run("run", *until)
    for sign in ("finetune: step", "distill: student alone"):
        ended = run_program(sign, "0", *other.command("run", *until), module="tests.pipelines.killed_program")
        assert ended.code < 0
    _, said = other.run("run", *until)
    assert "distill: continues from its checkpoint" in said
    assert workspace.tables() == other.tables()


def test_the_same_rows_are_tested_whether_a_night_is_warm_or_cold(workspace: Workspace) -> None:
    workspace.run("run", *data(workspace), *SECOND, *INGEST)
    shutil.rmtree(cold_rows(workspace))
    workspace.run("run", *data(workspace), *SECOND, *INGEST, "--set", "training.start=cold")
    for split in ("validation", "test"):
        tables = [pq.read_table(folder(workspace) / "rows.parquet", filters=[("split", "=", split)]) for folder in (warm_rows, cold_rows)]
        warm, cold = (table.sort_by("row_id").drop_columns(["row_id"]) for table in tables)
        assert warm.equals(cold)


def remove_pretrained(workspace: Workspace) -> None:
    (folder,) = workspace.path.glob("artifacts/pretrain/*/_manifest.json")
    shutil.rmtree(folder.parent)


def damage_student(workspace: Workspace) -> None:
    (file,) = workspace.path.glob("artifacts/distill/*/student.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose_vocabulary(workspace: Workspace) -> None:
    (cold_rows(workspace) / "vocabulary.json").unlink()


def lose_dates(workspace: Workspace) -> None:
    (cold_rows(workspace) / "dates.json").unlink()


def nothing(workspace: Workspace) -> None:
    return


@pytest.mark.parametrize(
    ("harm", "changes", "said"),
    [
        (remove_pretrained, (), "is not there any more"),
        (damage_student, (), "student.pt is damaged: it does not match its digest"),
        (lose_vocabulary, (), "vocabulary.json is missing"),
        (lose_dates, (), "was made by an earlier release"),
        (nothing, ("distill.student.width=6",), "version 1 has another student (distill.student was changed)"),
        (nothing, ("pretrain.encoder.layers=2",), "version 1 has a teacher of another shape (pretrain.encoder was changed)"),
        (nothing, ("statistics.windows=[2h]",), "version 1 has other inputs (statistics was changed)"),
        (nothing, ("history.max_length=5",), "version 1 has other inputs (history was changed)"),
    ],
)
def test_a_parent_that_cannot_be_continued_is_one_line(
    workspace: Workspace, harm: Callable[[Workspace], None], changes: tuple[str, ...], said: str
) -> None:
    harm(workspace)
    overrides = [word for change in changes for word in ("--set", change)]
    ended = workspace.start("run", *data(workspace), *SECOND, *INGEST, *overrides, "--set", "warm.without_parent=fail")
    assert ended.code == 2 and said in ended.err.splitlines()[-1] and "warm.without_parent: cold" in ended.err
    ended = workspace.start("run", *data(workspace), *SECOND, *INGEST, *overrides)
    assert ended.code == 0 and "a cold start: " in ended.err and said in ended.err
    assert not list(workspace.path.glob("artifacts/ingest/*/parent.json"))


def test_an_encoder_that_learned_the_labels_is_not_continued(workspace: Workspace) -> None:
    """A log that begins with the labels leaves nothing before them: its first encoder learned all clicks, those of later labels too."""
    whole = ("--set", "split.train=60h")
    _, said = workspace.run("run", *data(workspace), *FIRST, *whole, "--until", "register")
    assert "pretrain.clicks: before_labels has no effect" in said
    _, said = workspace.run("run", *data(workspace), *SECOND, *whole, *INGEST)
    assert "a cold start: the encoder of version 2 learned clicks that are labels now (pretrain.clicks: before_labels)" in said


def test_a_first_night_needs_nothing_to_continue(workspace: Workspace) -> None:
    out, _ = workspace.run("run", *data(workspace), *FIRST, "--until", "register", "--set", "warm.without_parent=fail")
    assert "nothing to do" in out


def test_a_clock_that_jumps_back_begins_cold(workspace: Workspace) -> None:
    _, said = workspace.run("run", *data(workspace), "--as-of", "2024-01-04T07:00", *INGEST)
    assert "a cold start: no champion learned from an earlier window" in said


def test_a_cold_start_that_is_due_says_what_warm_nights_are_worth_less(workspace: Workspace) -> None:
    every = ("--set", "warm.restart_every=5h")
    out, said = workspace.run("run", *data(workspace), *SECOND, *every)
    assert "a cold start: the last one learned until 2024-01-03 12:00 (warm.restart_every)" in said and "version 2 is champion" in said
    assert "warm less cold on warm night 1: " in out and "the cold one goes on" in out
    found = json.loads((workspace.path / "reports" / "latest" / "warm.json").read_text())
    assert found["continues"] == "version 1" and {"difference", "low", "high"} <= set(found["warm-cold"]["auc"])
    gap = found["models"]["warm"]["auc"]["value"] - found["models"]["cold"]["auc"]["value"]
    assert found["warm-cold"]["auc"]["difference"] == pytest.approx(gap)
    out, said = workspace.run("run", *data(workspace), *SECOND, *every)
    assert "nothing to do" in out and "warm less cold on warm night 1: " in out and "warm_check: up to date" in said


def test_a_corrected_day_is_said_and_may_begin_anew(workspace: Workspace) -> None:
    file = workspace.path.with_name("data") / "events-0.parquet"
    log = pq.read_table(file)
    clicked = log["clicked"].to_pylist()
    clicked[4] = 1 - clicked[4]
    pq.write_table(log.set_column(log.schema.get_field_index("clicked"), "clicked", pa.array(clicked)), file)
    _, said = workspace.run("run", *data(workspace), *SECOND, *INGEST)
    assert "warning: 2024-01-01 was corrected since version 1 learned it, and what was learned is not unlearned" in said
    assert Parent.read(warm_rows(workspace)).late == ["2024-01-01"]
    out, _ = workspace.run("status", *SECOND)
    assert "events: 2024-01-01 was corrected after version 1 learned it; warm.late: keep" in out
    _, said = workspace.run("run", *data(workspace), *SECOND, *INGEST, "--set", "warm.late=restart")
    assert "a cold start: version 1 learned 2024-01-01 as it was before a correction (warm.late: restart)" in said
