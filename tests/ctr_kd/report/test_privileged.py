"""A teacher that reads what cannot be served is called so wherever a figure of it stands, and nothing is measured by it."""

from __future__ import annotations

import copy
from typing import Any

from ctr_kd.report import render, render_proof, summary_table, verdict

AUC = {"teacher": 0.9, "teacher/bert": 0.88, "student": 0.75, "student_alone": 0.74}


def metrics(privileged: bool) -> dict[str, Any]:
    models: dict[str, dict[str, Any]] = {name: {"auc": {"value": auc, "low": auc - 0.01, "high": auc + 0.01}} for name, auc in AUC.items()}
    if privileged:
        for name in ("teacher", "teacher/bert"):
            models[name]["privileged"] = ["position", "dwell"]
    gain = {"difference": 0.01, "low": 0.005, "high": 0.015, "p_value": 0.01}
    lost = {"difference": -0.15, "low": -0.16, "high": -0.14, "p_value": 0.01}
    slices = {"item/unseen": {name: {**model, "rows": 9} for name, model in copy.deepcopy(models).items()}}
    return {"models": models, "comparisons": {"student-student_alone": {"auc": gain}, "student-teacher": {"auc": lost}}, "slices": slices}


def test_tables_mark_a_privileged_teacher_and_no_sentence_measures_by_it() -> None:
    plain, more = metrics(privileged=False), metrics(privileged=True)
    page = render(more)
    assert page.count("Teacher (privileged)") >= 2 and "Teacher bert (privileged)" in page
    assert "privileged" not in render(plain)
    for found in (more, plain):
        for model in found["models"].values():
            model["auc"]["seeds"] = [model["auc"]["value"]]
        found["comparisons"]["student-student_alone"]["auc"]["seeds"] = [0.01]
        found |= {"seeds": [0], "teacher_seeds": [0]}
    assert "Teacher (privileged)" in render_proof(more) and "privileged" not in render_proof(plain)
    assert "teacher (privileged)" in render(more)  # as the second of a difference
    assert "% of the teacher" in verdict(plain).sentence
    said = verdict(more).sentence
    assert "% of the teacher" not in said
    assert "the teacher read position and dwell, which are not there when a student is served: its AUC of 0.9000 is no measure" in said
    titles = list(summary_table(more).columns[0].cells)
    assert [str(title) for title in titles[:3]] == ["Teacher (privileged)", "Teacher bert (privileged)", "Student"]


def test_a_page_says_which_rows_a_teacher_knows_and_whether_it_knows_their_labels() -> None:
    leak = {"training": {"rows": 9, "auc": 0.8}, "validation": {"rows": 9, "auc": 0.7}, "difference": 0.1, "low": 0.05, "high": 0.15}
    fair = leak | {"difference": 0.01, "low": -0.02, "high": 0.03}
    found = metrics(privileged=False)
    found["teachers"] = {
        "production": {"kind": "scores", "coverage": {"train": 0.75, "test": 1.0}, "leak": leak},
        "bert": {"kind": "own", "coverage": {"train": 1.0, "test": 1.0}, "leak": fair},
        "mine": {"kind": "plugin", "coverage": {"train": 1.0}, "leak": None},
    }
    said = " ".join(verdict(found).remarks)
    assert "Of the training rows 75.0% were taught by production" in said
    assert "Where it teaches, production is better than on validation (+0.1000 [+0.0500, +0.1500] AUC)" in said
    assert "bert is better" not in said and "by bert" not in said and "mine" not in said
