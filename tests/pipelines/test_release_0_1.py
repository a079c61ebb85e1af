"""Files that release 0.1 wrote are read as what they are, and say the same when they are written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feature_store.tables.json_models import JsonModel
from feature_store.tables.seal import sealed
from pipelines.registry.lineage import Contents, Lineage
from pipelines.registry.registration import GateAnswers, Registration
from pipelines.scoring.manifest import FailedAttempt, ScoresManifest
from pipelines.tracking.tracker import OpenPipelineRun
from pipelines.workspace.artifacts import ArtifactError, read_json_as, read_manifest
from pipelines.workspace.lock import LockOwner
from pipelines.workspace.manifest import MANIFEST, MadeFrom, Manifest, ReportManifest

DIGEST = "d" * 64
ARTIFACT = {
    "stage": "register",
    "fingerprint": "a1f7c3d7e948f844",
    "code_version": 2,
    "inputs": {"ingest": {"fingerprint": "cd776eef886f619b", "digest": DIGEST}, "champion": {"digest": DIGEST}},
    "config": {"name": "simulated", "register": {"auc_min": 0.5, "log_loss_max": None}, "tracking.uri": None},
    "started": "2026-11-29T18:55:04+00:00",
    "seconds": 2.097,
    "peak_memory_bytes": 1633275904,
    "versions": {"python": "3.11.7"},
    "facts": {"version": "1", "passed": True, "rows": {"train": 10}},
    "digest": DIGEST,
    "files": {"metrics.json": {"sha256": DIGEST, "bytes": 37670}},
}
SCORES = {
    "date": "2024-01-14",
    "rows": 2,
    "model": "simulated",
    "model_uri": "models:/simulated@champion",
    "model_version": "1",
    "fingerprint": "5a90cab7579d4a96",
    "made_from": {
        "events": {"2024-01-01": DIGEST},
        "users": None,
        "contract": DIGEST,
        "settings": {"score.candidates": "log", "score.top": None},
        "as_of": None,
    },
    "report": {
        "rows": 3,
        "unseen": {"item": 0.5, "device": None},
        "missing": {"history": 1},
        "scores": {"mean": 0.1, "low": 0.0, "high": 1.0, "edges": [0.5], "rows": [2, 1], "psi": 0.002, "validation_rows": [9, 9]},
        "seconds": 1.75,
        "resumed_rows": 0,
        "rows_per_second": 12574.6,
    },
    "files": {"scores.parquet": {"sha256": DIGEST}, "scoring.json": {"sha256": DIGEST}},
}
TEXTS = {name: value for name, value in SCORES.items() if name not in ("date", "made_from")} | {"split": "test"}
CHECKS = [
    {"name": "auc", "value": 0.7, "bound": ">= 0.5", "passed": True, "champion": 0.69},
    {"name": "champion_readable", "value": None, "bound": "answers", "passed": False, "reason": "its files are lost"},
]
GATE = {"passed": False, "checks": CHECKS, "challenger": "2", "champion_before": "1", "champion_after": "1"}
FILES: list[tuple[type[JsonModel], dict[str, Any]]] = [
    (Registration, {"name": "m", "version": "2", "uri": "models:/m/2", "student_digest": DIGEST, "gate": GATE}),
    (GateAnswers, {"student": DIGEST, "champion": None, "checks": CHECKS}),
    (Contents, {"files": {"MLmodel": DIGEST}}),
    (
        Lineage,
        {
            "data": {"digest": DIGEST, "rows": DIGEST},
            "configuration": {"digest": DIGEST, "keys": {"ingest": {"source": {"reader": "simulated", "items": None}}}},
            "teacher": {"fingerprint": "75dbf71aac7b8376", "digest": DIGEST},
            "artifacts": {"ingest": {"fingerprint": "cd776eef886f619b", "digest": DIGEST}},
            "validation_scores": {"edges": [0.5], "rows": [9, 9]},
            "versions": {"python": "3.11.7"},
            "code_revision": None,
            "student": {"digest": DIGEST, "files": {"data/student/student.onnx": DIGEST}},
        },
    ),
    (Lineage, {"student": {"digest": DIGEST, "files": {}}}),
    (FailedAttempt, {"date": "2024-01-14", "reason": "no room", "code": 1, "when": "2024-01-15T00:00:00+00:00"}),
    (ReportManifest, {"stage": "register", "digest": DIGEST}),
    (LockOwner, {"pid": 7, "host": "night", "command": "ctr-kd run", "since": "2024-01-15 00:00:00 UTC"}),
    (MadeFrom, {"inputs": {"log": {"digest": "1"}}, "config": {"seed": 0}}),
]


@pytest.mark.parametrize(("kind", "content"), FILES, ids=[kind.__name__ for kind, _ in FILES])
def test_a_file_says_the_same_when_it_is_written_again(kind: type[JsonModel], content: dict[str, Any]) -> None:
    assert json.dumps(kind.from_json(content).to_json()) == json.dumps(content)


def test_an_artifact_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(sealed(ARTIFACT)))
    manifest = read_manifest(tmp_path, Manifest)
    assert manifest is not None
    assert (manifest.stage, manifest.source, manifest.seconds, manifest.files["metrics.json"].bytes) == ("register", None, 2.097, 37670)
    assert (manifest.inputs["ingest"].fingerprint, manifest.inputs["champion"].fingerprint) == ("cd776eef886f619b", None)
    assert manifest.to_json() == ARTIFACT  # `code_version`, which no stage has any more, is kept


@pytest.mark.parametrize("content", [SCORES, TEXTS], ids=["a date", "a split"])
def test_scores_are_what_they_were(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(sealed(content)))
    manifest = read_manifest(tmp_path, ScoresManifest)
    assert manifest is not None
    assert (manifest.rows, manifest.report.rows, manifest.report.scores.psi) == (2, 3, 0.002)
    assert manifest.to_json() == content
    assert manifest.summary()["rows"] == 3 and "files" not in manifest.summary()


def test_the_run_that_a_kill_left_open_had_another_word_for_its_pipeline(tmp_path: Path) -> None:
    (tmp_path / OpenPipelineRun.FILE).write_text(json.dumps({"road": DIGEST, "run": "k", "experiment": "demo"}))
    left = OpenPipelineRun.read(tmp_path)
    assert (left.pipeline, left.closed) == (DIGEST, False)
    assert left.to_json() == {"pipeline": DIGEST, "run": "k", "experiment": "demo"}


def test_a_file_that_holds_something_else_is_damaged_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "registration.json").write_text(json.dumps({"name": "m", "gate": None}))
    with pytest.raises(ArtifactError, match=r"registration.json is damaged: .*version.*; delete .* and run again"):
        read_json_as(tmp_path / "registration.json", Registration)
