"""Challenger and champion on the same rows: what is measured of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ctr_kd.metrics import auc_score
from pipelines.config.register import RegisterConfig
from pipelines.errors import ConfigError
from pipelines.registry.challenger import ChampionComparison, Mismatch, compare_with_champion
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_package import load_scorer, save_model
from pipelines.tasks.answers import answers_of
from pipelines.tasks.click_rows import ClickRows

BOUNDS = RegisterConfig(bootstrap=20, latency_requests=10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_export: Callable[[Path, list[float]], None]) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("contest")
    example = pd.DataFrame({"history": [[10]], "item_id": [11], "timestamp": pd.to_datetime(["2024-01-01"])})
    for name, logits in {"one": [2.0, 1.0, 0.0, -2.0], "other": [-2.0, 0.0, 1.0, 2.0]}.items():
        make_export(root / "export" / name, logits)
        save_model(root / "export" / name, root / name / "model", Lineage(), example)
    return {name: root / name / "model" for name in ("one", "other")}


def compared(
    test: Any, rows: pa.Table, trained: np.ndarray, model: Path, champion: Path | None, bounds: RegisterConfig
) -> ChampionComparison:
    return compare_with_champion(test=test, rows=rows, trained=trained, model=model, champion=champion, bounds=bounds)


@pytest.fixture
def test_rows(tmp_path: Path, make_assembly: Callable[[Path], None]) -> ClickRows:
    make_assembly(tmp_path)
    return ClickRows(tmp_path)


def test_both_are_measured_on_the_newest_rows(models: dict[str, Path], test_rows: ClickRows) -> None:
    rows = test_rows.read("test")
    trained = load_scorer(models["one"]).score(test_rows.raw(rows))
    found = compared(test_rows, rows, trained, models["one"], models["other"], BOUNDS.model_copy(update={"champion_rows": 100}))
    assert found.champion is not None
    newest = rows.slice(test_rows.newest(rows, 100))
    unknown = (newest["item"].to_numpy() == 4).mean()  # item 99 is in no vocabulary
    assert found.challenger.unseen_share == found.champion.unseen_share == pytest.approx(unknown)
    assert (found.challenger.figure("auc") or 0) > 0.6 > (found.champion.figure("auc") or 0)
    assert found.differences["auc"].low > 0 > found.differences["log_loss"].high
    again = compared(test_rows, newest, trained[-newest.num_rows :], models["one"], models["one"], BOUNDS)
    assert again.challenger.metrics == found.challenger.metrics
    assert again.differences["auc"].difference == 0
    alone = compared(test_rows, rows, trained, models["one"], None, BOUNDS)
    assert (alone.champion, alone.differences, alone.parts) == (None, {}, {})


def test_parts_of_the_rows_are_compared_where_they_have_enough(models: dict[str, Path], test_rows: ClickRows) -> None:
    rows = test_rows.read("test")
    trained = load_scorer(models["one"]).score(test_rows.raw(rows))
    asked = {"slices": ("device", "history_length", "item"), "slice_rows": 80}
    found = compared(test_rows, rows, trained, models["one"], models["other"], BOUNDS.model_copy(update=asked))
    device = np.array(rows["device"].to_pylist(), object)
    sizes = {str(value or "null"): int((device == value).sum()) for value in ("phone", "desk", "tv", None)}
    assert {part.value: part.rows for part in found.parts["device"]} == {value: size for value, size in sizes.items() if size >= 80}
    assert {part.value for part in found.parts["item"]} == {"seen"}  # all unseen items are one, which has one score
    assert len(found.parts["history_length"]) > 1
    score = {name: load_scorer(models[name]).score(test_rows.raw(rows)) for name in ("one", "other")}
    for part in found.parts["device"]:
        mask = device == part.value
        auc = [auc_score(rows["label"].to_numpy()[mask], one[mask]) for one in score.values()]
        assert part.difference.difference == pytest.approx(auc[0] - auc[1])
    with pytest.raises(ConfigError, match=r"^register.slices: the log has no column 'colour' with few values; there are device, history_"):
        compared(test_rows, rows, trained, models["one"], None, BOUNDS.model_copy(update={"slices": ("colour",)}))


def test_a_difference_without_a_value_says_why(models: dict[str, Path], test_rows: ClickRows) -> None:
    rows = test_rows.read("test")
    rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(np.ones(rows.num_rows, np.int8)))
    trained = load_scorer(models["one"]).score(test_rows.raw(rows))
    found = compared(test_rows, rows, trained, models["one"], models["other"], BOUNDS)
    assert found.differences["auc"].reason == "all 300 labels are 1"


def test_a_champion_of_other_classes_is_no_rival(models: dict[str, Path], test_rows: ClickRows) -> None:
    rows = test_rows.read("test")
    with pytest.raises(Mismatch, match="the challenger"):
        compared(test_rows, rows, np.full((rows.num_rows, 3), 1 / 3), models["one"], models["other"], BOUNDS)


@pytest.mark.parametrize("candidates", [1, 7, 1000])
def test_a_request_is_one_history_with_many_candidates(models: dict[str, Path], test_rows: ClickRows, candidates: int) -> None:
    request = test_rows.request(test_rows.read("test"), candidates)
    assert request.num_rows == candidates
    assert len(set(map(tuple, request["history"].to_pylist()))) == len(set(request["user_id"].to_pylist())) == 1
    assert np.isfinite(load_scorer(models["one"]).score(request)).all()
    assert answers_of(load_scorer(models["one"])).unseen(request)[1] == candidates


def test_requests_are_timed_of_both_on_the_thread_that_asks(models: dict[str, Path], test_rows: ClickRows) -> None:
    rows = test_rows.read("test")
    trained = load_scorer(models["one"]).score(test_rows.raw(rows))
    found = compared(test_rows, rows, trained, models["one"], models["other"], BOUNDS)
    for contender in (found.challenger, found.champion):
        assert contender is not None
        assert (contender.latency.rounds, contender.latency.requests) == (5, 2)
        assert contender.figure("latency_p99_ms") == contender.latency.processor_ms > 0
    # The clock of one thread tells all only if the runtime has no other.
    assert load_scorer(models["one"]).session.get_session_options().intra_op_num_threads == 1
