"""Scoring a date into one partition and a file into another, with a student of one embedding and a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics.drift import population_stability_index
from feature_store.features.historical_features import FeatureLookup, candidates_on, features_for
from feature_store.tables.contracts import DataError
from pipelines.cli.status import status
from pipelines.config.run import RunConfig
from pipelines.errors import ConfigError
from pipelines.exit_codes import explain
from pipelines.scoring.backfill import why_stale
from pipelines.scoring.feature_join import Joiner, StoreFeatures
from pipelines.scoring.files import score_file
from pipelines.scoring.labelled_files import evaluate_file
from pipelines.scoring.partitions import read_partition
from pipelines.tracking.client import TrackingError, tracking_uri
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner
from tests.pipelines.served import DAYS, IN_PARTS, PIPELINE, Served, day_of_log, probability


def test_a_date_becomes_one_partition(served: Served) -> None:
    made, path = served.run()
    assert made == ("ingest", "score")
    assert path == served.workspace / "scores" / "date=2024-01-03"  # the last date of the test window
    table = pq.read_table(path / "scores.parquet").to_pydict()
    assert list(table) == ["request_id", "user_id", "item_id", "timestamp", "score", "model_version"]
    assert len(table["score"]) == 30
    np.testing.assert_allclose(table["score"], [probability(item) for item in table["item_id"]], atol=1e-6)
    assert set(table["model_version"]) == {"1"}
    assert {moment.date() for moment in table["timestamp"]} == {date(2024, 1, 3)}
    report = json.loads((path / "scoring.json").read_text())
    assert report["rows"] == sum(report["scores"]["rows"]) == 30
    assert report["scores"]["mean"] == pytest.approx(np.mean(table["score"]))
    assert report["unseen"]["item"] == pytest.approx(np.mean([item == 99 for item in table["item_id"]]))
    assert report["unseen"]["device"] == 0
    counts = np.histogram(table["score"], [0, *report["scores"]["edges"], 1])[0]  # edges are scores: each begins a bin
    assert report["scores"]["psi"] == pytest.approx(population_stability_index(report["scores"]["validation_rows"], counts))
    manifest = json.loads((path / "_manifest.json").read_text())
    assert manifest["report"]["missing"] == report["missing"]
    assert (manifest["rows"], manifest["model_version"]) == (30, "1")
    assert [found.name for found in path.parent.iterdir()] == ["date=2024-01-03"]


def test_scores_are_made_again_when_and_only_when_they_would_differ(served: Served) -> None:
    served.run()
    assert served.run()[0] == ()
    made, path = served.run(date=date(2024, 1, 2))
    assert made == ("score",)
    assert path.name == "date=2024-01-02"
    served.registry().promote("2")
    made, path = served.run()
    assert made == ("score",)
    table = pq.read_table(path / "scores.parquet").to_pydict()
    np.testing.assert_allclose(table["score"], [probability(item, 2) for item in table["item_id"]], atol=1e-6)
    assert served.run(model="models:/demo/1")[0] == ("score",)
    assert served.run()[0] == ("score",)  # the partition held another model's scores
    for damage in (
        lambda: (path / "scores.parquet").unlink(),
        lambda: (path / "scores.parquet").write_bytes((path / "scores.parquet").read_bytes()[:-1] + b"?"),
        lambda: (path / "_manifest.json").unlink(),
        lambda: (path / "_manifest.json").write_text("{"),
    ):
        damage()
        assert served.run()[0] == ("score",)
        assert served.run()[0] == ()


@pytest.mark.parametrize("kind", ["log", "live"])
def test_candidates_are_scored_piece_by_piece_and_the_log_is_read_once(served: Served, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The joined pieces hold what one join of all candidates gives."""
    settings = served.config.model_dump(by_alias=True)
    served.config = RunConfig.model_validate(settings | {"score": {"batch_rows": 5, "workers": 1, "candidates": kind}})
    opened, joined = [], []
    enter, of = FeatureLookup.__enter__, FeatureLookup.of
    monkeypatch.setattr(FeatureLookup, "__enter__", lambda self: opened.append(1) or enter(self))
    monkeypatch.setattr(FeatureLookup, "of", lambda self, frame: joined.append(of(self, frame)) or joined[-1])
    _, path = served.run()
    monkeypatch.undo()
    store, config = served.context().store, served.config
    whole = candidates_on(store, date(2024, 1, 3), config.assembly, config.feature_store, kind=kind)  # type: ignore[arg-type]
    assert len(opened) == 1
    assert max(piece.num_rows for piece in joined) <= 5 < whole.num_rows
    assert pq.read_table(path / "scores.parquet").select(whole.column_names[:4]) == whole.select(whole.column_names[:4])
    expected = features_for(store, whole.select(["user_id", "item_id", "timestamp"]), config.assembly, config.feature_store)
    for name in ("history", "item_age", "item_clicks_1h"):
        assert pa.concat_tables(joined)[name].to_pylist() == expected[name].to_pylist()


def test_a_date_without_events_is_a_fault_of_the_data(served: Served) -> None:
    with pytest.raises(DataError, match="no event on 2025-01-01"):
        served.run(date=date(2025, 1, 1))
    assert not list(served.workspace.glob("scores/date=*"))


def test_no_champion_says_what_to_do(served: Served) -> None:
    served.registry().client.delete_registered_model_alias("demo", "champion")
    with pytest.raises(TrackingError, match="demo has no champion"):
        served.run()
    with pytest.raises(ConfigError, match=r"demo has no alias champoin; its aliases are challenger \(version 2\)"):
        served.run(model="models:/demo@champoin")


def test_status_tells_what_stands(served: Served) -> None:
    served.run()
    context = served.context()
    context.read_only = True
    text = status(context, tracking_uri(served.config, served.workspace))
    assert "events: 90 rows in 3 partitions, 2024-01-01 to 2024-01-03; 0 rows in quarantine" in text
    assert "scores: 2024-01-03 30 rows by demo version 1" in text
    assert "champion: version 1 of demo" in text
    assert "challenger: version 2 of demo" in text
    assert "pretrain - missing (needs ingest)" in [" ".join(line.split()) for line in text.splitlines()]


def test_status_tells_of_what_was_made_with_other_settings(served: Served) -> None:
    served.run()
    served.change(history={"max_length": 3})
    context = served.context()
    context.read_only = True
    text = status(context, tracking_uri(served.config, served.workspace))
    (line,) = (line for line in text.splitlines() if line.startswith("  ingest"))
    assert line.endswith("missing; 1 made with other settings or inputs is kept")


def frame(**columns: Any) -> pd.DataFrame:
    moment = pd.Timestamp("2024-01-03T10:00", tz="UTC")
    rows = {"note": ["a", "b", "c"], "item_id": [10, 13, 99], "timestamp": [moment] * 3, "user_id": ["u1", "u2", "stranger"]}
    return pd.DataFrame(rows | columns)


def scored(served: Served, given: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    served.ingest()
    given.to_parquet(tmp_path / "in.parquet")
    score_file(served.context(), tmp_path / "in.parquet", tmp_path / "out" / "scored.parquet")
    return pd.read_parquet(tmp_path / "out" / "scored.parquet")


def test_a_file_comes_back_with_scores(served: Served, tmp_path: Path) -> None:
    given = pd.concat([frame()] * 11, ignore_index=True)
    served.change(score=IN_PARTS)
    found = scored(served, given, tmp_path)
    assert list(found.columns) == [*given.columns, "score", "model_version"]
    pd.testing.assert_frame_equal(found[given.columns], given, check_dtype=False)
    assert set(found["model_version"]) == {"1"}
    np.testing.assert_allclose(found["score"], [probability(item) for item in given["item_id"]], atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scored.parquet", "scored.scoring.json"]
    report = json.loads((tmp_path / "out" / "scored.scoring.json").read_text())
    assert (report["rows"], report["model_version"], report["unseen"]["item"]) == (33, "1", 1 / 3)
    assert report["missing"] | {"item_age": 0} == {**dict.fromkeys(report["missing"], 0), "device": 33, "history": 11}


@pytest.mark.parametrize(
    "columns",
    [
        {"history": [[10], [], None]},
        {"history": [[10, 11], [12], []], "item_age": [1.0, None, 3.0], "device": ["phone", None, "tv"]},
        {"score": [0.0, 0.0, 0.0]},
        {"timestamp": pd.to_datetime(["2024-01-03T10:00"] * 3)},
        {"item_id": ["10", "13", "99"]},
    ],
    ids=lambda columns: "+".join(columns),
)
def test_what_a_file_carries_is_used_and_what_it_lacks_is_joined(served: Served, tmp_path: Path, columns: dict[str, Any]) -> None:
    found = scored(served, frame(**columns), tmp_path)
    np.testing.assert_allclose(found["score"], [probability(item) for item in (10, 13, 99)], atol=1e-6)
    assert list(found.columns).count("score") == 1


def test_a_context_column_that_a_file_lacks_stays_null_also_where_a_statistic_is_called_so(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log")
    log = day_of_log(date(2024, 1, 3))
    pq.write_table(pa.table({**log, "hour": np.arange(30.0), "Item_Age": np.arange(30.0)}), served.data / "log_1.parquet")
    served.change(source={"context": {"categorical": ["device"], "dense": ["hour", "Item_Age"]}})
    served.run()
    with StoreFeatures(served.context()) as features:
        joined = Joiner(["history", "hour", "Item_Age", "item_age", "user_gap"], features, served.config.assembly).join(
            pa.Table.from_pandas(frame())
        )
    assert joined.column_names[4:] == ["history", "user_gap", "history_timestamps"]


def test_a_file_that_carries_everything_needs_no_store(served: Served) -> None:
    table = pa.Table.from_pandas(frame(history=[[10], [], [11]], item_age=[1.0, 2.0, 3.0]))
    run = RunContext(served.config, served.workspace / "nowhere")
    with StoreFeatures(run) as features:
        assert Joiner(["history", "item_age"], features, run.config.assembly).join(table) is table


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.drop(columns="item_id"), "column item_id is missing"),
        (lambda f: f.drop(columns="timestamp"), "column timestamp is missing"),
        (lambda f: f.drop(columns="user_id"), "column history is missing"),
        (lambda f: f.assign(timestamp="soon"), "column timestamp: row 1 "),
        (lambda f: f.assign(history=3), "column history must hold lists"),
        (lambda f: f.assign(item_id=1.5), "column item_id must hold text or integer ids"),
    ],
    ids=["item", "timestamp", "history", "time", "list", "id"],
)
def test_a_file_that_cannot_be_scored_is_named_and_leaves_no_output(
    served: Served, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], expected: str
) -> None:
    with pytest.raises(DataError) as error:
        scored(served, change(frame()), tmp_path)
    assert expected in str(error.value)
    assert "in.parquet" in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_column_name_that_stands_twice_is_a_fault_of_the_data(served: Served, tmp_path: Path) -> None:
    rows = pa.Table.from_pandas(frame(), preserve_index=False)
    pq.write_table(rows.append_column("item_id", rows["item_id"]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice.parquet: column 'item_id' occurs 2 times; rename all but one"):
        score_file(served.context(), tmp_path / "twice.parquet", tmp_path / "out.parquet")


def test_a_truncated_file_is_a_fault_of_the_data(served: Served, tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-10])
    with pytest.raises(DataError, match=r"cut.parquet: is no complete Parquet file"):
        score_file(served.context(), tmp_path / "cut.parquet", tmp_path / "out.parquet")


def test_a_request_of_labelled_rows_is_that_of_one_user_at_one_time(served: Served, tmp_path: Path) -> None:
    """Request ids that begin anew for every user and day, as session counters do."""
    served.ingest()
    hours = [pd.Timestamp("2024-01-03T10:00", tz="UTC"), pd.Timestamp("2024-01-03T11:00", tz="UTC")]
    rows = [
        {"user_id": user, "timestamp": hour, "item_id": item, "request_id": 1, "clicked": int(item == 10)}
        for user in ("u1", "u2", "u3")
        for hour in hours
        for item in (10, 13)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "labelled.parquet")
    assert json.loads(evaluate_file(served.context(), tmp_path / "labelled.parquet"))["request_auc"]["requests"] == 6
    pd.DataFrame(rows).assign(request_id=None).astype({"request_id": "string"}).to_parquet(tmp_path / "labelled.parquet")
    alone = json.loads(evaluate_file(served.context(), tmp_path / "labelled.parquet"))["request_auc"]
    assert (alone["value"], alone.get("undefined_requests", 12)) == (None, 12)


def test_labelled_rows_are_measured(served: Served, tmp_path: Path) -> None:
    served.ingest()
    rows = pd.concat([frame()] * 20, ignore_index=True).assign(clicked=[1, 0, 0] * 20)
    rows.to_parquet(tmp_path / "labelled.parquet")
    found = json.loads(evaluate_file(served.context(), tmp_path / "labelled.parquet"))
    assert (found["rows"], found["version"], found["auc"]["value"]) == (60, "1", 1.0)
    assert json.loads(evaluate_file(served.context(model="models:/demo/2"), tmp_path / "labelled.parquet"))["auc"]["value"] < 0.6
    for change, expected in (
        (rows.drop(columns="clicked"), "column clicked is missing"),
        (rows.assign(clicked=2), "must hold 0 and 1"),
        (rows.assign(item_age=np.inf), "labelled.parquet, rows from 1 on: column item_age must hold numbers, not inf"),
        (rows.assign(request_id=1.5), "column request_id holds 1.5; an id is text or an integer"),
    ):
        change.to_parquet(tmp_path / "labelled.parquet")
        with pytest.raises(DataError, match=expected):
            evaluate_file(served.context(), tmp_path / "labelled.parquet")


def test_a_model_without_reference_scores_and_says_that_drift_is_unknown(served: Served) -> None:
    _, path = served.run(model="models:/demo/2")
    scores = json.loads((path / "scoring.json").read_text())["scores"]
    assert scores["psi"] is None
    assert scores["reason"].endswith("register it again")


def test_retrieved_candidates_are_live_items_that_the_user_has_not_clicked_yet(served: Served) -> None:
    served.change(score={"candidates": "retrieve", "per_user": 2}, candidates={"window": "2d"})
    _, path = served.run(date=date(2024, 1, 3))
    found = pq.read_table(path / "scores.parquet").to_pandas()
    live = candidates_on(
        served.context().store, date(2024, 1, 3), served.config.assembly, served.config.feature_store, kind="live"
    ).to_pandas()
    assert set(found["user_id"]) == set(live["user_id"])
    assert set(zip(found["user_id"], found["item_id"], found["timestamp"], strict=True)) <= set(
        zip(live["user_id"], live["item_id"], live["timestamp"], strict=True)
    )
    rows = pa.table({"user_id": live["user_id"], "item_id": live["item_id"], "timestamp": live["timestamp"]})
    joined = features_for(served.context().store, rows, served.config.assembly, served.config.feature_store).to_pandas()
    clicked = {user: set(history) for user, history in zip(joined["user_id"], joined["history"], strict=True)}
    for user, rows_of_user in found.groupby("user_id"):
        left = set(live["item_id"]) - clicked[user]
        assert len(rows_of_user) == min(2, len(left))
        assert set(rows_of_user["item_id"]) <= left
    np.testing.assert_allclose(found["score"], [probability(item) for item in found["item_id"]], atol=1e-6)


@pytest.mark.parametrize("kind", ["live", "retrieve"])
def test_tomorrow_is_scored_before_it_has_events_and_stays_when_they_come(served: Served, tmp_path: Path, kind: str) -> None:
    """With the users of the days before, at its beginning; what a date brings is what its scores were for."""
    served.own_log(tmp_path / "log", *DAYS[:2])
    tomorrow = DAYS[2]
    with pytest.raises(DataError, match="no event on 2024-01-03") as refused:
        served.run(date=tomorrow)
    assert "score.candidates: live and retrieve score a date before it has events" in explain(refused.value)
    served.change(score={"candidates": kind, "window": timedelta(days=1), "per_user": 2})
    _, path = served.run(date=tomorrow)
    found = pq.read_table(path / "scores.parquet").to_pandas()
    assert set(found["user_id"]) == {f"u{n}" for n in range(7)}
    assert set(found["timestamp"]) == {pd.Timestamp(tomorrow, tz="UTC")}
    log = day_of_log(DAYS[1])
    assert set(found["item_id"]) <= {item for item, clicked in zip(log["item"], log["clicked"], strict=True) if clicked}
    served.deliver(tomorrow)
    manifest = read_partition(served.workspace, tomorrow)
    assert manifest is not None and manifest.made_from is not None and manifest.made_from.ahead
    assert why_stale(served.context(), tomorrow, manifest) == []
    served.deliver(DAYS[1], slice(0, 20))
    Runner(served.context(), PIPELINE[:1]).run()
    assert why_stale(served.context(), tomorrow, manifest) == ["the events of 2024-01-02 were corrected"]
    served.run(date=tomorrow)  # who asks for it has it scored anew, with its own users at its end
    again = read_partition(served.workspace, tomorrow)
    assert again is not None and again.made_from is not None and not again.made_from.ahead


def test_a_date_whose_events_are_all_later_is_scored_ahead(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", *DAYS[:2])
    tomorrow = DAYS[2]
    served.change(score={"candidates": "live", "window": timedelta(days=1)})
    served.deliver(tomorrow, slice(10, 20))  # from eight o'clock on
    for hour, ahead in ((4, True), (12, False)):
        served.run(as_of=pd.Timestamp(tomorrow, tz="UTC").to_pydatetime() + timedelta(hours=hour), date=tomorrow)
        manifest = read_partition(served.workspace, tomorrow)
        assert manifest is not None and manifest.made_from is not None and manifest.made_from.ahead == ahead


@pytest.mark.parametrize("kind", ["log", "live"])
def test_the_best_of_each_user_are_kept(served: Served, kind: str) -> None:
    served.change(score=IN_PARTS | {"candidates": kind})
    whole = pq.read_table(served.run()[1] / "scores.parquet").to_pandas()
    served.change(score={"top": 2})
    made, path = served.run()
    assert made == ("score",)
    found = pq.read_table(path / "scores.parquet").to_pandas()
    best = whole.sort_values("score", ascending=False, kind="stable").groupby("user_id").head(2).sort_index()
    pd.testing.assert_frame_equal(found, best.reset_index(drop=True))
    manifest = json.loads((path / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["report"]["rows"]) == (len(found), len(whole))


def test_the_best_of_each_user_of_a_file(served: Served, tmp_path: Path) -> None:
    given = pd.concat([frame()] * 11, ignore_index=True)
    served.change(score=IN_PARTS | {"top": 4})
    found = scored(served, given, tmp_path)
    pd.testing.assert_frame_equal(found[given.columns], given.head(12), check_dtype=False)
    given.drop(columns="user_id").assign(history=[[10]] * 33).to_parquet(tmp_path / "nobody.parquet")
    with pytest.raises(DataError, match=r"column user_id is missing; score\.top"):
        score_file(served.context(), tmp_path / "nobody.parquet", tmp_path / "scored.parquet")
