"""What may go of a workspace, and that it can be killed on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.json_files import write_json
from feature_store.tables.seal import sealed
from pipelines.workspace.artifacts import CHECKPOINT, STARTED, Artifact
from pipelines.workspace.manifest import MANIFEST, Manifest, ReportManifest, StageInput
from pipelines.workspace.retention import TEACHER_STATES, VECTORS, removals, size_of

NOW = datetime(2026, 3, 31, tzinfo=UTC)
STAGES = ("ingest", "finetune", "evaluate")
NAMES = [f"{kind}{night}" for kind in "ei" for night in "abcd"] + ["new", "old", "lost", "shown", "killed", "running"]


def fp(name: str) -> str:
    """Fingerprint of an artifact that the test calls so."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def make(workspace: Path, stage: str, name: str, days_ago: float, inputs: Sequence[tuple[str, str]] = (), many: bool = False) -> Path:
    """A finished artifact of 10 bytes beside its manifest; an experiment, made from ``many`` of a stage, names them another way."""
    fingerprint = fp(name)
    path = workspace / "artifacts" / stage / fingerprint
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"0123456789")
    if many:
        made_from = {f"{other}/{fp(one)}": StageInput(digest="d") for other, one in inputs}
    else:
        made_from = {other: StageInput(fingerprint=fp(one), digest="d") for other, one in inputs}
    made_from["log"] = StageInput(digest="of outside")
    started = (NOW - timedelta(days=days_ago)).isoformat(timespec="seconds")
    write_json(path / MANIFEST, sealed(Manifest(stage=stage, fingerprint=fingerprint, inputs=made_from, started=started).to_json()))
    return path


def age(path: Path, days: float) -> Path:
    time = (NOW - timedelta(days=days)).timestamp()
    for at, folders, names in os.walk(path):
        for name in (*folders, *names):
            os.utime(Path(at) / name, (time, time), follow_symlinks=False)
    os.utime(path, (time, time))
    return path


def goes(workspace: Path, alive: Sequence[tuple[str, str]] = (), keep: int = 1, days: float = 10) -> list[str]:
    """Kinds and names of what may go."""
    known = {fp(name): name for name in NAMES}
    found = removals(workspace, [(stage, fp(name)) for stage, name in alive], keep, NOW - timedelta(days=days))
    return [f"{one.kind}: {one.path.parent.name}/{known.get(one.path.name, one.path.name)}" for one in found]


def test_what_is_new_young_or_alive_stays_with_all_it_was_made_of(tmp_path: Path) -> None:
    for night, days in (("a", 40), ("b", 30), ("c", 20), ("d", 5)):
        make(tmp_path, "ingest", f"i{night}", days)
        make(tmp_path, "evaluate", f"e{night}", days, [("ingest", f"i{night}")])
    assert {one[-2:] for one in goes(tmp_path)} == {"ea", "ia", "eb", "ib", "ec", "ic"}
    assert {one[-2:] for one in goes(tmp_path, [("evaluate", "ea")])} == {"eb", "ib", "ec", "ic"}
    assert {one[-2:] for one in goes(tmp_path, keep=2)} == {"ea", "ia", "eb", "ib"}
    assert {one[-2:] for one in goes(tmp_path, days=25)} == {"ea", "ia", "eb", "ib"}
    assert goes(tmp_path, [("evaluate", "unknown")], days=100) == []


def test_reports_scorings_and_unfinished_artifacts(tmp_path: Path) -> None:
    make(tmp_path, "evaluate", "new", 1)
    make(tmp_path, "evaluate", "old", 50)
    reports = tmp_path / "reports"
    for name in ("new", "old", "lost", "shown"):
        (reports / fp(name)).mkdir(parents=True)
        ReportManifest(stage="evaluate", digest="d").write(reports / fp(name))
        age(reports / fp(name), 50)
    (reports / "latest").symlink_to(fp("shown"))
    (reports / "monitor").mkdir()
    ReportManifest(stage="monitor", digest="d").write(reports / "monitor")
    age(reports / "monitor", 50)
    # of a date whose attempt was killed, the folder that says so stays
    scorings = (".date=2026-01-01.parts", 50.0), (".date=2026-03-30.parts", 1.0), ("date=2026-01-01", 50.0), (".date=2026-01-01.tmp", 50.0)
    for name, days in scorings:
        (tmp_path / "scores" / name).mkdir(parents=True)
        age(tmp_path / "scores" / name, days)
    for name, days in (("killed", 50.0), ("running", 0.5)):
        (tmp_path / "artifacts" / "finetune" / fp(name) / CHECKPOINT).mkdir(parents=True)
        (tmp_path / "artifacts" / "finetune" / fp(name) / STARTED).write_text("{}")
        age(tmp_path / "artifacts" / "finetune" / fp(name), days)
    assert sorted(goes(tmp_path)) == [
        "artifact: evaluate/old",
        "report: reports/lost",
        "report: reports/old",
        "unfinished artifact: finetune/killed",
        "unfinished scoring: scores/.date=2026-01-01.parts",
    ]
    assert "unfinished artifact: finetune/killed" not in goes(tmp_path, [("finetune", "killed")])
    for one in removals(tmp_path, (), 1, NOW - timedelta(days=10)):
        one.carry_out()
    assert goes(tmp_path) == [] and (reports / "latest").resolve().is_dir()


def test_what_is_not_ours_or_not_understood_stays(tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "other", "evaluate", "theirs", 50)
    make(tmp_path, "evaluate", "new", 1)
    (tmp_path / "artifacts" / "evaluate" / fp("linked")).symlink_to(elsewhere)
    (tmp_path / "artifacts" / "score" / "failed").mkdir(parents=True)  # what a stage keeps of its failures
    age(tmp_path / "artifacts" / "score" / "failed", 50)
    earlier = make(tmp_path, "evaluate", "of an earlier release", 50)
    write_json(earlier / MANIFEST, {"stage": "evaluate"})  # which sealed none
    age(earlier, 50)
    damaged = make(tmp_path, "evaluate", "damaged", 50)
    (damaged / MANIFEST).write_text((damaged / MANIFEST).read_text().replace("d", "e", 1))
    undated = make(tmp_path, "evaluate", "undated", 50)
    write_json(undated / MANIFEST, sealed(Manifest(stage="evaluate", fingerprint=fp("undated"), started="?").to_json()))
    assert goes(tmp_path) == []
    assert elsewhere.exists()


def test_what_an_experiment_was_made_of_stays_with_it(tmp_path: Path) -> None:
    students = [f"student {n}" for n in range(12)]
    for name in students:
        make(tmp_path, "finetune", f"teacher of {name}", 60)
        make(tmp_path, "student", name, 50, [("finetune", f"teacher of {name}")])
    make(tmp_path, "prove", "proof", 40, [("student", name) for name in students], many=True)
    assert goes(tmp_path, keep=3) == []
    make(tmp_path, "prove", "newer", 20)
    went = goes(tmp_path, keep=1)
    assert len(went) == 1 + 11 + 11 and went[0].startswith("artifact: prove/")  # before what it was made from


def test_sizes_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(1000))
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "small").write_bytes(bytes(10))
    assert size_of(tmp_path / "folder") == 10 and size_of(tmp_path / "big") == 1000 and size_of(tmp_path / "none") == 0
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "big")
    assert size_of(tmp_path / "folder") < 1000


NIGHTS = st.lists(
    st.tuples(st.sampled_from([1, 5, 12, 30]), st.sets(st.integers(0, 11), max_size=3), st.booleans()), min_size=1, max_size=12
)


@given(nights=NIGHTS, keep=st.integers(1, 3), days=st.sampled_from([0, 10, 40]))
def test_whenever_a_removal_is_killed_nothing_stands_without_what_it_was_made_of(
    nights: list[tuple[int, set[int], bool]], keep: int, days: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        begun: dict[str, float] = {}
        inputs: dict[str, list[str]] = {}
        for number, (older_by, chosen, _) in enumerate(nights):  # an artifact is younger than all it was made from
            name = f"{STAGES[number % 3]}/{number}"
            inputs[name] = [f"{STAGES[one % 3]}/{one}" for one in chosen if one < number and one % 3 < number % 3]
            inputs[name] = list({one.split("/")[0]: one for one in inputs[name]}.values())
            begun[name] = min([50.0, *(begun[one] for one in inputs[name])]) - older_by // 10  # many of one moment
            made_from = [(one.split("/")[0], one.split("/")[1]) for one in inputs[name]]
            make(workspace, STAGES[number % 3], str(number), begun[name], made_from, many=number % 2 == 0)
        living = [(STAGES[n % 3], str(n)) for n, (_, _, lives) in enumerate(nights) if lives]
        alive = [(stage, fp(number)) for stage, number in living]
        known = {fp(str(number)): str(number) for number in range(len(nights))}
        planned = removals(workspace, alive, keep, NOW - timedelta(days=days))

        def standing() -> set[str]:
            paths = (workspace / "artifacts").glob("*/*")
            return {f"{path.parent.name}/{known[path.name]}" for path in paths if Artifact(path).manifest is not None}

        wanted = {"/".join(one) for one in living} | {name for name, ago in begun.items() if ago <= days}
        for stage in STAGES:
            of_stage = sorted((name for name in begun if name.startswith(stage)), key=lambda name: begun[name])
            wanted |= set(of_stage[:keep]) if len({begun[name] for name in of_stage}) == len(of_stage) else set()
        for one in planned:
            one.carry_out()
            there = standing()
            assert all(set(inputs[name]) <= there for name in there)
        assert _with_inputs(wanted, inputs) <= standing()
        assert not removals(workspace, alive, keep, NOW - timedelta(days=days))
        shutil.rmtree(workspace / "artifacts")


def _with_inputs(names: set[str], inputs: Mapping[str, Sequence[str]]) -> set[str]:
    found = set(names)
    for name in names:
        found |= _with_inputs(set(inputs[name]), inputs)
    return found


@pytest.mark.parametrize(("root", "kind"), [(VECTORS, "folder of vectors"), (TEACHER_STATES, "folder of teacher states")])
def test_vectors_and_states_that_no_kept_artifact_reads_go(tmp_path: Path, root: str, kind: str) -> None:
    for name, days in (("new", 1), ("old", 50)):
        path = make(tmp_path, "ingest", name, days)
        made = Manifest.model_validate(json.loads((path / MANIFEST).read_text())).model_copy(update={"facts": {root: f"of {name}"}})
        write_json(path / MANIFEST, sealed({key: value for key, value in made.to_json().items() if key != "seal"}))
        for folder in (f"of {name}", f"tried and {name}"):
            (tmp_path / root / folder).mkdir(parents=True)
            age(tmp_path / root / folder, days)
    assert goes(tmp_path) == ["artifact: ingest/old", f"{kind}: {root}/of old", f"{kind}: {root}/tried and old"]
    assert goes(tmp_path, [("ingest", "old")]) == [f"{kind}: {root}/tried and old"]
    for one in removals(tmp_path, (), 1, NOW - timedelta(days=10)):
        one.carry_out()
    assert sorted(path.name for path in (tmp_path / root).iterdir()) == ["of new", "tried and new"]
