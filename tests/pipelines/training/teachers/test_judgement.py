"""Teachers of every kind asked about the rows of a run: once each, and out of fold where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ctr_kd.config_teachers import TeacherConfig
from ctr_kd.data import disk_arrays
from ctr_kd.training import finetune as finetuning
from ctr_kd.training.errors import TrainingError
from feature_store.plugins import PluginError
from feature_store.tables.contracts import DataError
from pipelines.config.run import RunConfig
from pipelines.stages import TO_TEACHER
from pipelines.tasks.logits import read_predictions
from pipelines.training.facts import DistillationFacts, FitOnRows, LeakFacts, TeacherFacts, TeachersFacts
from pipelines.training.teachers import fitted
from pipelines.training.teachers.bert import BertTeacher
from pipelines.training.teachers.judgement import _remarks
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.training.teachers.my_teachers import ByPrice
from tests.pipelines.training.teachers.shop import Shop

PLACE = "tests.pipelines.training.teachers.my_teachers"
MINE = {"name": "mine", "plugin": f"{PLACE}:ByPrice"}


def teacher_stage(shop: Shop, *teachers: dict) -> RunContext:
    context = RunContext(shop.config(list(teachers)), shop.workspace, shop.data)
    Runner(context, TO_TEACHER).run()
    return context


def combined(context: RunContext, split: str) -> pd.Series:
    folder = context.artifacts["teacher"].path
    row_id, logits = read_predictions(folder / f"predictions_{split}.parquet", folder.name)
    return pd.Series(logits[:, 0].astype(float), row_id)


def test_a_plug_in_is_fitted_once_for_all_students_and_stages(shop: Shop) -> None:
    ByPrice.fitted.clear()
    shop.run([MINE])
    shop.run([MINE], student={"kind": "dcn"})
    context = teacher_stage(shop, MINE)
    assert len(ByPrice.fitted) == 1
    train = ByPrice.fitted[0]
    again = ByPrice()
    again.fit(train, train)
    rows = pq.read_table(context.artifacts["ingest"].path / "rows.parquet").to_pandas()
    test = rows[rows["split"] == "test"]
    np.testing.assert_allclose(combined(context, "test").loc[test["row_id"]], again.logits(test[["price"]]), atol=1e-5)
    assert len(train) == (rows["split"] == "train").sum()


def test_trees_are_grown_once_for_all_students(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    grown, fit = [], fitted.fit_boosted_trees
    monkeypatch.setattr(fitted, "fit_boosted_trees", lambda *a: (grown.append(1), fit(*a))[1])
    one = shop.run({"boosted_trees": 1})
    other = shop.run({"boosted_trees": 1}, student={"kind": "dcn"})
    assert grown == [1]
    first, second = (pq.read_table(run.artifacts["distill"].path / "predictions_teacher_test.parquet") for run in (one, other))
    assert first.equals(second)
    facts = DistillationFacts.read(other.artifacts["distill"].path).teachers.teachers["boosted_trees"]
    assert facts.trees and facts.rows_per_second and facts.coverage == {"train": 1.0, "validation": 1.0, "test": 1.0}


def test_out_of_fold_no_row_is_judged_by_a_teacher_that_saw_it_or_anything_later(shop: Shop) -> None:
    ByPrice.fitted.clear()
    context = teacher_stage(shop, MINE | {"out_of_fold": True, "folds": 3})
    rows = pq.read_table(context.artifacts["ingest"].path / "rows.parquet").to_pandas()
    train, whole = rows[rows["split"] == "train"], combined(context, "train")
    last = ByPrice.fitted[0]  # of all training rows: it judges validation and test
    assert len(last) == len(train) and len(ByPrice.fitted) == 3
    unjudged = whole[whole.isna()].index
    times = train.set_index("row_id")["timestamp"]
    assert 0.3 < len(unjudged) / len(train) < 0.37 and times[unjudged].max() < times[whole.dropna().index].min()
    for one in ByPrice.fitted[1:]:
        newest = int(pd.Timestamp(one["timestamp"].max()).timestamp() * 1e6)
        model = ByPrice()
        ByPrice.fitted, kept = [], ByPrice.fitted
        model.fit(one, one)
        ByPrice.fitted = kept
        judged = train[train["timestamp"] > newest]
        said = model.logits(judged[["price"]])
        agree = np.isclose(said, whole.loc[judged["row_id"]], atol=2e-3)
        assert 0.3 < agree.mean() <= 1  # those of its own fold, all of which are later than what it learned
    assert TeachersFacts.read(context.artifacts["teacher"].path).teachers["mine"].coverage["validation"] == 1


def test_a_teacher_that_repeats_labels_is_found_and_one_that_does_not_is_not(shop: Shop) -> None:
    log = shop.log.assign(p_click=np.where(shop.log["clicked"] == 1, 0.9, 0.1))
    newest = log["time"] >= log["time"].quantile(0.7)  # what it could not see, it does not know
    log["p_click"] = np.where(newest, np.random.default_rng(0).random(len(log)), log["p_click"])
    log.to_csv(shop.data / "scores.csv", index=False)
    seer = {"name": "seer", "scores": {"path": "scores.csv", "score": "p_click", "user": "user", "item": "item", "time": "time"}}
    context = shop.run([seer, MINE])
    teachers = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers
    seen, own = teachers["seer"].leak, teachers["mine"].leak
    assert seen is not None and own is not None
    assert seen.beyond_chance and seen.training.auc == 1 and seen.validation.auc < 0.7
    assert not own.beyond_chance and own.training.rows == own.validation.rows
    assert "warning: seer has AUC 1.0000 on the newest training rows" in shop.said.getvalue()
    assert "warning: mine" not in shop.said.getvalue()


def test_that_a_teacher_of_texts_learned_its_labels_here_is_no_news() -> None:
    """out_of_fold is refused of texts, and would make the student worse: nothing is to be done."""
    leak = LeakFacts(
        training=FitOnRows(rows=9, accuracy=1.0), validation=FitOnRows(rows=9, accuracy=0.5), difference=0.5, low=0.1, high=0.7
    )
    assert _remarks(TeacherConfig(name="linear"), TeacherFacts(digest="", leak=leak)) == []
    elsewhere = TeacherConfig(name="other", model="models:/other/1", trust=True)
    (line,) = _remarks(elsewhere, TeacherFacts(digest="", leak=leak))
    assert "other has accuracy 1.0000" in line and "out_of_fold" not in line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SaysNan", "answers no finite number for"),
        ("SaysFew", r"answers an array of shape \(3,\) for"),
        ("SaysWords", "answers a ndarray that is no array of numbers"),
        ("SaysBoth", "answers 2 columns, and there is 1 output"),
        ("Raises", "cannot be fitted: RuntimeError: no GPU here"),
    ],
)
def test_a_plug_in_that_cannot_teach_is_one_line(shop: Shop, name: str, line: str) -> None:
    with pytest.raises(DataError, match=line) as error:
        shop.run([{"name": "mine", "plugin": f"{PLACE}:{name}"}])
    assert "\n" not in str(error.value) and str(error.value).startswith(f"teacher mine ({PLACE}:{name})")


@pytest.mark.parametrize(
    ("place", "line"),
    [(f"{PLACE}:HasNoFit", "has no method 'fit'"), (f"{PLACE}:Nobody", "cannot be imported"), ("known", "there is no teacher")],
)
def test_a_plug_in_that_is_none_is_one_line(shop: Shop, place: str, line: str) -> None:
    with pytest.raises(PluginError, match=line):
        shop.run([{"name": "mine", "plugin": place}])


def test_out_of_fold_the_bert_is_trained_anew_for_every_fold(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own stage stored is of a BERT that saw all training rows."""
    learned, finetune = [], finetuning.finetune_members
    monkeypatch.setattr(
        finetuning, "finetune_members", lambda e, rows, *a, **n: (learned.append(rows.train), finetune(e, rows, *a, **n))[1]
    )
    context = teacher_stage(shop, {"name": "bert", "out_of_fold": True, "folds": 3})
    assert len(learned) == 2 and len(learned[0]) < len(learned[1])
    own = context.artifacts["finetune"].path
    row_id, stored = read_predictions(own / "predictions_train.parquet", own.name)
    found = combined(context, "train").loc[row_id]
    judged = found.notna()
    equal = np.isclose(found[judged], stored[judged, 0], atol=1e-4)  # a few may be by chance, in the precision that is stored
    assert 0.6 < judged.mean() < 0.7 and equal.mean() < 0.02


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 1,050 training rows of the shop are three pieces."""
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(disk_arrays, "PIECE", 400)


@pytest.mark.usefixtures("in_pieces")
def test_a_teacher_that_diverged_is_no_teacher_that_says_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = BertTeacher.stored
    monkeypatch.setattr(
        BertTeacher, "stored", lambda self, rows: np.where(np.arange(rows.num_rows) == 3, np.nan, stored(self, rows)[:, 0])[:, None]
    )
    with pytest.raises(TrainingError, match=r"is not finite \(3 such rows\)"):  # one in each piece
        shop.run({"bert": 1})


@pytest.mark.usefixtures("in_pieces")
def test_what_a_plug_in_says_is_judged_over_all_pieces(shop: Shop) -> None:
    with pytest.raises(DataError, match=r"for 1 of \d+ rows that it was asked about at once \(first: row 500\)"):
        shop.run([{"name": "mine", "plugin": f"{PLACE}:FailsOnce"}])
    shop.run([{"name": "mine", "plugin": f"{PLACE}:SaysMoreLater"}])
    assert "are they probabilities?" not in shop.said.getvalue()  # of the first piece they might be
    shop.run([{"name": "mine", "plugin": f"{PLACE}:SaysProbabilities"}])
    assert shop.said.getvalue().count("are they probabilities?") == 1


@pytest.mark.parametrize("column", ["clicked", "price"])
def test_a_column_that_tells_the_click_or_that_models_read_is_no_score(shop: Shop, column: str) -> None:
    with pytest.raises(ValidationError, match=r"says what happened|is a context column too"):
        shop.config([{"name": "oracle", "scores": {"column": column}}])


def test_two_classes_of_one_module_are_two_teachers(shop: Shop) -> None:
    one, other = (teacher_stage(shop, {"name": "mine", "plugin": f"{PLACE}:{name}"}) for name in ("ByPrice", "SaysTheOpposite"))
    np.testing.assert_allclose(combined(one, "test"), -combined(other, "test"), atol=1e-5)


def test_a_plug_in_is_told_how_much_rows_weigh(tmp_path: Path) -> None:
    ByPrice.fitted.clear()
    shop = Shop(tmp_path / "shop")
    shop.log.assign(worth=1 + np.arange(len(shop.log)) % 5).to_parquet(shop.data / "events.parquet")
    config = shop.config([MINE]).model_dump(by_alias=True, exclude_unset=True)
    config["source"]["events"]["weight"] = "worth"
    context = RunContext(RunConfig.model_validate(config), shop.workspace, shop.data)
    Runner(context, TO_TEACHER).run()
    assert set(ByPrice.fitted[0]["row_weight"]) == {1, 2, 3, 4, 5}
