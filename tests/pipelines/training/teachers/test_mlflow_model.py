"""Models that MLflow loads, as teachers: asked by the columns of their signature, trusted by name, refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store.tables.contracts import DataError
from pipelines.errors import ConfigError
from pipelines.metrics import Metrics
from pipelines.stages import PIPELINE
from pipelines.tasks.logits import read_predictions
from pipelines.tracking.client import connect, sqlite_uri
from pipelines.tracking.tracker import Tracker
from pipelines.training.facts import DistillationFacts
from pipelines.training.teachers.mlflow_model import ModelTeacher
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.training.teachers.shop import Shop

pytestmark = pytest.mark.slow
COLUMNS = ["price", "item_clicks_1h"]


def teacher(model: str | Path, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "ranker", "model": str(model), "trust": True, **more}]


def inputs(log: pd.DataFrame) -> pd.DataFrame:
    return log[["price"]].assign(item_clicks_1h=np.arange(len(log)) % 7.0)


def boosted(shop: Shop, folder: Path) -> Any:
    """A LightGBM ranker of two columns, saved as MLflow saves it."""
    import lightgbm
    import mlflow.lightgbm
    from mlflow.models import infer_signature

    frame = inputs(shop.log)
    fitted = lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 4}, lightgbm.Dataset(frame, shop.log["clicked"]), 5)
    mlflow.lightgbm.save_model(fitted, str(folder), signature=infer_signature(frame, fitted.predict(frame)))
    return fitted


def linear(shop: Shop, folder: Path) -> Any:
    """A model whose answers are logits: any number."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    frame = shop.log[["price"]]
    fitted = LinearRegression().fit(frame, 4.0 * shop.log["clicked"] - 2)
    mlflow.sklearn.save_model(
        fitted, str(folder), signature=infer_signature(frame, fitted.predict(frame)), serialization_format="cloudpickle"
    )
    return fitted


def logistic(shop: Shop, folder: Path, function: str = "predict_proba", rename: str = "price", *, signed: bool = True) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    frame = shop.log[["price"]].rename(columns={"price": rename})
    fitted = LogisticRegression().fit(frame, shop.log["clicked"])
    signature = infer_signature(frame, fitted.predict_proba(frame)) if signed else None
    mlflow.sklearn.save_model(fitted, str(folder), signature=signature, pyfunc_predict_fn=function, serialization_format="cloudpickle")


def said(context: RunContext) -> tuple[pd.DataFrame, np.ndarray]:
    """The test rows, and what the teacher said of them."""
    folder = context.artifacts["distill"].path
    row_id, logits = read_predictions(folder / "predictions_teacher_ranker_test.parquet", folder.name)
    rows = pq.read_table(context.artifacts["ingest"].path / "rows.parquet").to_pandas().set_index("row_id")
    return rows.loc[row_id], logits[:, 0]


def test_a_lightgbm_ranker_out_of_the_registry_teaches(shop: Shop, tmp_path: Path, mlflow_database: Path) -> None:
    shop.workspace.mkdir(exist_ok=True)
    shutil.copyfile(mlflow_database, shop.workspace / "mlflow.db")
    ranker = boosted(shop, tmp_path / "model")
    client = connect(sqlite_uri(shop.workspace / "mlflow.db"))
    client.create_registered_model("ranker")
    client.create_model_version("ranker", str(tmp_path / "model"))
    client.set_registered_model_alias("ranker", "champion", "1")
    context = shop.run(teacher("models:/ranker@champion"))
    rows, logits = said(context)
    probability = ranker.predict(rows[COLUMNS].astype(float))
    np.testing.assert_allclose(logits, np.log(probability / (1 - probability)), atol=1e-5)
    facts = DistillationFacts.read(context.artifacts["distill"].path).teachers.teachers["ranker"]
    assert facts.kind == "model" and facts.rows_per_second and facts.until is None

    # a night later, with another student: it is asked about no row twice, not even loaded
    (tmp_path / "model" / "model.lgb").rename(tmp_path / "hidden")
    with pytest.raises(ConfigError):  # another model by its files
        shop.run(teacher("models:/ranker@nobody"))
    (tmp_path / "hidden").rename(tmp_path / "model" / "model.lgb")
    ledger = sorted((shop.workspace / "teachers").rglob("*.parquet"))
    shop.run(teacher("models:/ranker@champion"), student={"kind": "dcn"})
    assert sorted((shop.workspace / "teachers").rglob("*.parquet")) == ledger


def test_what_a_model_said_of_a_row_holds_for_other_nights_too(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another night has other windows, other row ids and another assembly; most of its rows were in the one before."""
    boosted(shop, tmp_path / "model")
    asked: list[int] = []
    logits = ModelTeacher.logits
    monkeypatch.setattr(ModelTeacher, "logits", lambda self, rows: (asked.append(rows.num_rows), logits(self, rows))[1])
    shop.run(teacher(tmp_path / "model"))
    first = sum(asked)
    config = shop.config(teacher(tmp_path / "model"))
    later = type(config).model_validate(config.model_dump(by_alias=True) | {"split": {"fractions": [0.5, 0.25, 0.25]}})
    context = RunContext(later, shop.workspace, shop.data)
    Runner(context, PIPELINE).run(last="distill")
    assert 0 < first <= len(shop.log) and sum(asked) == first  # rows that say the same to the model are one
    rows, said_again = said(context)
    assert len(rows) > 0.2 * len(shop.log) and np.isfinite(said_again).all()


def test_probabilities_of_two_classes_are_those_of_a_click_and_logits_are_taken_as_they_are(shop: Shop, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    logistic(shop, tmp_path / "model")
    own = LogisticRegression().fit(shop.log[["price"]], shop.log["clicked"])
    rows, logits = said(shop.run(teacher(tmp_path / "model")))
    np.testing.assert_allclose(logits, own.decision_function(rows[["price"]]), atol=1e-4)
    other = linear(shop, tmp_path / "logits")
    rows, logits = said(shop.run(teacher(tmp_path / "logits", scale="logit")))
    np.testing.assert_allclose(logits, other.predict(rows[["price"]]), atol=1e-4)
    with pytest.raises(DataError, match="which is no probability: set scale: logit"):
        shop.run(teacher(tmp_path / "logits"))


def test_an_earlier_champion_of_our_own_teaches(shop: Shop, mlflow_database: Path) -> None:
    shutil.copyfile(mlflow_database, shop.workspace / "mlflow.db")
    config = shop.config([{"name": "bert"}]).model_dump(by_alias=True)
    config["register"] |= {"auc_min": 0, "calibration_error_max": 1}
    context = RunContext(type(shop.config({"bert": 1})).model_validate(config), shop.workspace, shop.data)
    context.tracker = Tracker(sqlite_uri(shop.workspace / "mlflow.db"), shop.workspace, print)
    Runner(context, PIPELINE).run(last="register")
    student = context.artifacts["distill"].path
    shipped = Metrics.read(context.artifacts["evaluate"].path).shipped
    again = shop.run(teacher("models:/shop/1"))
    _, logits = said(again)
    _, before = read_predictions(student / f"predictions_{shipped}_test.parquet", student.name)
    np.testing.assert_allclose(logits, before[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("made", "more", "error", "line"),
    [
        ({"function": "predict"}, {}, DataError, "teaches nothing|says classes"),
        ({"rename": "prize"}, {}, DataError, "asks for column 'prize', which the log has not; the nearest existing name is 'price'"),
        ({"signed": False}, {}, DataError, "has no signature with names of columns"),
        ({}, {"output": "clicks"}, DataError, "answers no column 'clicks' but a ndarray"),
    ],
)
def test_a_model_that_cannot_teach_is_one_line(
    shop: Shop, tmp_path: Path, made: dict[str, Any], more: dict[str, Any], error: type[Exception], line: str
) -> None:
    logistic(shop, tmp_path / "model", **made)
    with pytest.raises(error, match=line) as raised:
        shop.run(teacher(tmp_path / "model", **more))
    assert "\n" not in str(raised.value)


def test_what_is_no_model_is_one_line(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, line in ((tmp_path / "empty", "has no file MLmodel"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(ConfigError, match=line):
            shop.run(teacher(place))
