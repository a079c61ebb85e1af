"""training.json of every stage: what is written reads back, and the file holds the keys that reports and tracking know."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from feature_store.tables.json_files import load_json
from pipelines.training.facts import (
    FILE,
    DistillationFacts,
    EncoderFacts,
    FinetuningFacts,
    FitFacts,
    MadeTextFacts,
    PairFacts,
    PretrainingFacts,
    StudentFacts,
    TeachersFacts,
    WeightFacts,
    WeightingFacts,
    read_transfer_facts,
    write_transfer_facts,
)
from tests.pipelines.training_facts import CURVE, DISTILLED, FINETUNED, PRETRAINED, STUDENT

PAIRS = PairFacts(asked=9, rows=8, neighbours=4, popularity=4, index="exact", recall=1.0)
TEXTS = MadeTextFacts(wanted=9, rows=8, augmented=3)
WEIGHTING = WeightingFacts(
    rows=7,
    teachers={"bert": WeightFacts(fixed=1.0, mean=0.9, low=0.8, high=1.0)},
    validation={"fixed": FitFacts(auc=0.6, log_loss=0.5), "learned": FitFacts(auc=0.7, log_loss=0.4)},
    used="learned",
)
MORE = PRETRAINED.model_copy(
    update={
        "until": datetime(2024, 1, 2, tzinfo=UTC),
        "more_encoders": [EncoderFacts(facts={}, parameters=1, bytes=4, curve=CURVE)],
    }
)
ADOPTED = PretrainingFacts(
    facts={}, parameters=1, bytes=4, until=None, checkpoint={"bert/vocab.txt": "d"}, untrained=["pooler"], more_encoders=[]
)
WHOLE = replace(DISTILLED, transfer=PAIRS, teachers=replace(DISTILLED.teachers, weighting=WEIGHTING))
CASES: dict[str, Any] = {
    "pretrained": PRETRAINED,
    "more encoders": MORE,
    "adopted": ADOPTED,
    "fine-tuned": FINETUNED,
    "hard negatives": FINETUNED.model_copy(update={"hard_negatives": PAIRS}),
    "student": STUDENT,
    "student with texts": STUDENT.model_copy(update={"transfer": TEXTS}),
    "teachers": WHOLE.teachers,
    "distilled": DISTILLED,
    "distilled with all": WHOLE,
}


@pytest.mark.parametrize("facts", CASES.values(), ids=CASES)
def test_what_is_written_reads_back_and_is_written_as_the_same_bytes(facts: Any, tmp_path: Path) -> None:
    facts.write(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    again = type(facts).read(tmp_path)
    assert again == facts
    again.write(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("facts", [PAIRS, TEXTS], ids=["pairs", "texts"])
def test_a_transfer_set_reads_back_as_that_of_its_task(facts: PairFacts | MadeTextFacts, tmp_path: Path) -> None:
    write_transfer_facts(tmp_path, facts)
    again = read_transfer_facts(tmp_path)
    assert again == facts and type(again) is type(facts)


def test_the_file_of_distill_has_a_key_for_each_teacher_and_no_key_for_what_there_is_not(tmp_path: Path) -> None:
    WHOLE.write(tmp_path)
    assert list(load_json(tmp_path / FILE)) == ["transfer", "teacher/boosted_trees", "weighting", "student", "student_alone"]
    DISTILLED.write(tmp_path)
    written = load_json(tmp_path / FILE)
    assert list(written) == ["teacher/boosted_trees", "student", "student_alone"]
    assert written["teacher/boosted_trees"] == {"rows_per_second": 7.0, "library": "lightgbm"}
    assert list(written["student"]) == ["curve", "parameters", "kind", "calibration", "bytes"]
    assert written["student"]["curve"] == CURVE.to_dict()


def test_steps_of_a_curve_stay_whole_numbers(tmp_path: Path) -> None:
    STUDENT.write(tmp_path)
    assert '"step": 1,' in (tmp_path / FILE).read_text()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    FINETUNED.write(tmp_path)
    written = load_json(tmp_path / FILE)
    del written["parameters"]
    (tmp_path / FILE).write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"training.json is damaged: parameters: .*; delete .* and run again"):
        FinetuningFacts.read(tmp_path)


def test_nothing_reads_one_stage_as_another(tmp_path: Path) -> None:
    DISTILLED.write(tmp_path)
    with pytest.raises(ValueError, match="curve"):
        StudentFacts.read(tmp_path)
    FINETUNED.write(tmp_path)
    with pytest.raises(KeyError, match="student"):
        DistillationFacts.read(tmp_path)
    assert TeachersFacts.read(tmp_path) == TeachersFacts()
