"""Monitoring: live figures per date against labels, bounds that alarm, and dates that wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics import auc_score, calibration_ratio, log_loss
from feature_store.features.summary import SplitTimes
from feature_store.tables.contracts import DataError
from pipelines.cli import main as cli
from pipelines.config.run import RunConfig, describe
from pipelines.config.scoring import MonitorConfig
from pipelines.errors import BoundBroken
from pipelines.exit_codes import exit_code
from pipelines.registry import loaded_model
from pipelines.stages import monitor
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.runner import Runner
from tests.pipelines.served import DAYS, PIPELINE, Served, day_of_log

FIRST, SECOND, THIRD = DAYS
OPEN = {"auc_min": None, "calibration_ratio_max": None, "calibration_ratio_min": None, "calibration_error_max": None, "psi_max": None}


def watch(served: Served, as_of: datetime | None = None, **bounds: Any) -> list[dict[str, Any]]:
    """Monitor with these bounds alone; the dates of monitor.json."""
    served.change(monitor={"min_rows": 10, **OPEN, **bounds})
    runner = Runner(served.context(as_of), [PIPELINE[0], monitor.STAGE])
    try:
        runner.run("monitor", "monitor")
    finally:
        dates: list[dict[str, Any]] = json.loads((served.workspace / "reports" / "monitor" / "monitor.json").read_text())["dates"]
    return dates


def test_each_scored_date_is_measured_on_its_labels(served: Served) -> None:
    for day in (FIRST, THIRD):
        served.run(date=day)
    dates = watch(served)
    assert [one["date"] for one in dates] == ["2024-01-01", "2024-01-03"]
    for day, one in zip((FIRST, THIRD), dates, strict=True):
        scores = pq.read_table(served.workspace / "scores" / f"date={day}" / "scores.parquet")
        log = day_of_log(day)
        clicked = {(u, i, t): c for u, i, t, c in zip(log["user"], log["item"], log["time"], log["clicked"], strict=True)}
        label = [clicked[row["user_id"], row["item_id"], row["timestamp"]] for row in scores.to_pylist()]
        score = scores["score"].to_numpy()
        assert (one["rows"], one["clicks"], one["model_version"]) == (30, sum(label), "1")
        assert one["auc"]["value"] == pytest.approx(auc_score(label, score))
        assert one["auc"]["low"] <= one["auc"]["value"] <= one["auc"]["high"]
        assert one["log_loss"]["value"] == pytest.approx(log_loss(label, score))
        assert one["calibration_ratio"] == pytest.approx(calibration_ratio(label, score))
        report = json.loads((served.workspace / "scores" / f"date={day}" / "scoring.json").read_text())
        assert one["psi"] == report["scores"]["psi"]


def test_rows_without_a_click_of_a_thinned_log_stand_for_several(served: Served) -> None:
    served.run(date=FIRST)
    ratio = watch(served)[0]["calibration_ratio"]
    served.change(source={"negative_sampling_rate": 0.2})
    (one,) = watch(served)
    log, table = day_of_log(FIRST), pq.read_table(served.workspace / "scores" / f"date={FIRST}" / "scores.parquet").to_pylist()
    clicked = {(u, i, t): c for u, i, t, c in zip(log["user"], log["item"], log["time"], log["clicked"], strict=True)}
    label = np.array([clicked[row["user_id"], row["item_id"], row["timestamp"]] for row in table])
    score = np.array([row["score"] for row in table])
    assert one["calibration_ratio"] == pytest.approx((score * np.where(label == 1, 1, 5)).sum() / label.sum()) != pytest.approx(ratio)


def test_a_second_look_at_the_same_labels_does_nothing_and_new_ones_are_seen(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST, SECOND)
    served.run(date=FIRST)
    first = watch(served)[0]
    runner = Runner(served.context(), [PIPELINE[0], monitor.STAGE])
    assert runner.run("monitor", "monitor").made == ()
    served.deliver(FIRST, slice(0, 15))  # half of it was not so
    assert watch(served)[0]["rows"] == 15 < first["rows"]


def test_damaged_scores_are_named_and_measured_once_they_were_scored_again(served: Served) -> None:
    served.run(date=FIRST)
    file = served.workspace / "scores" / f"date={FIRST}" / "scores.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"date=2024-01-01: a file of it is damaged; `ctr-kd backfill --start 2024-01-01 --end 2024-01-01`"):
        Runner(served.context(), [PIPELINE[0], monitor.STAGE]).run("monitor", "monitor")
    served.run(date=FIRST)
    assert watch(served)[0]["rows"] == 30


def test_a_broken_bound_is_an_alarm_with_what_broke_and_a_page_for_whoever_looks(served: Served) -> None:
    for day in (FIRST, THIRD):
        served.run(date=day)
    with pytest.raises(BoundBroken, match=r"auc .*, must be >= 1\. See .*reports/monitor/monitor.html") as alarm:
        watch(served, auc_min=1.0)
    assert exit_code(alarm.value) == 4
    page = (served.workspace / "reports" / "monitor" / "monitor.html").read_text()
    assert "2 bounds are broken" in page and "<svg" in page and "<script" not in page
    dates = json.loads((served.workspace / "reports" / "monitor" / "monitor.json").read_text())["dates"]
    assert [check["passed"] for one in dates for check in one["checks"]] == [False, False]
    with pytest.raises(BoundBroken):  # for as long as it is broken
        watch(served, auc_min=1.0)
    with pytest.raises(BoundBroken, match="1 bound is broken"):
        watch(served, auc_min=1.0, judged_dates=1)
    assert watch(served, auc_min=1.0, min_rows=31)[-1]["reason"] == "fewer than 31 labelled rows: not judged"


def test_a_day_without_any_click_breaks_the_bounds_that_need_clicks(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST)
    log = day_of_log(SECOND) | {"clicked": np.zeros(30, np.int64)}
    import pyarrow as pa

    pq.write_table(pa.table(log), served.data / "log_2024-01-02.parquet")
    served.run(date=SECOND)
    with pytest.raises(BoundBroken, match="all 30 labels are 0"):
        watch(served, auc_min=0.1)


def test_drift_alarms_unless_it_is_unknown_or_may_be_chance(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.run(date=FIRST, model="models:/demo/1")
    with monkeypatch.context() as patch, pytest.raises(BoundBroken, match="psi"):
        patch.setattr(monitor, "index_by_chance", lambda expected, observed: 0.0)  # as of very many rows
        watch(served, psi_max=1e-6)
    measured = watch(served, psi_max=1e-5)[0]  # which is another question than the one before
    assert measured["psi"] < measured["psi_by_chance"] and all(check["passed"] for check in measured["checks"])
    served.run(date=FIRST, model="models:/demo/2")
    assert watch(served, psi_max=1e-6)[0]["psi"]["value"] is None


def test_live_candidates_wait_for_their_clicks_and_are_measured_on_what_was_shown_later(served: Served) -> None:
    served.change(score={"candidates": "live"}, candidates={"window": "2d"})
    served.run(date=THIRD)
    assert watch(served)[0]["reason"] == "its clicks are still to come"
    served.run(date=FIRST)
    one = watch(served)[0]
    assert one["state"] == "measured"
    scores = pq.read_table(served.workspace / "scores" / "date=2024-01-01" / "scores.parquet").to_pylist()
    moment = scores[0]["timestamp"]
    shown: dict[tuple[str, int], int] = {}
    for day in DAYS:
        log = day_of_log(day)
        for user, item, time, clicked in zip(log["user"], log["item"], log["time"], log["clicked"], strict=True):
            if 0 <= (time - moment).total_seconds() < 86400:
                shown[user, item] = max(shown.get((user, item), 0), int(clicked))
    labels = [shown[row["user_id"], row["item_id"]] for row in scores if (row["user_id"], row["item_id"]) in shown]
    assert (one["rows"], one["clicks"]) == (len(labels), sum(labels))


def test_nothing_is_known_that_comes_after_the_logical_time(served: Served) -> None:
    served.run(date=THIRD)
    assert watch(served, as_of=datetime(2024, 1, 3, 12, tzinfo=UTC))[0]["rows"] == 15
    assert watch(served, as_of=datetime(2024, 1, 2, tzinfo=UTC))[0]["state"] == "waiting"


def test_dates_that_the_model_learned_from_are_marked_and_outside_of_bounds_and_alarms(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learned until noon of the second day and chose by the rest of it."""
    split = SplitTimes(
        train_from=None,
        train_until=datetime(2024, 1, 2, 12, tzinfo=UTC),
        validate_until=datetime(2024, 1, 3, tzinfo=UTC),
        test_until=datetime(2024, 1, 4, tzinfo=UTC),
    )
    load = loaded_model.lineage_of
    monkeypatch.setattr(loaded_model, "lineage_of", lambda path: load(path).model_copy(update={"split": split}))
    for day in DAYS:
        served.run(date=day)
    marks = [json.loads((served.workspace / "scores" / f"date={day}" / "_manifest.json").read_text())["seen_in_training"] for day in DAYS]
    assert marks == [{"window": "training", "share": 1.0}, {"window": "training", "share": 1.0}, None]
    with pytest.raises(BoundBroken, match=r"1 bound is broken\. 2024-01-03: auc"):
        watch(served, auc_min=1.0)
    dates = watch(served, auc_min=0.0)
    assert [len(one["checks"]) for one in dates] == [0, 0, 1]
    assert [one["state"] for one in dates] == ["measured"] * 3
    assert dates[0]["reason"] == "in the training window of version 1: not judged"
    page = (served.workspace / "reports" / "monitor" / "monitor.html").read_text()
    assert "AUC, on what was learned" in page and "in the training window of version 1" in page


def test_no_new_event_for_too_long_is_an_alarm(served: Served) -> None:
    """Counted from the logical time, and without one from when the command began."""
    last = max(day_of_log(THIRD)["time"])

    def look(as_of: datetime | None, began: datetime | None = None) -> None:
        served.change(monitor={**OPEN, "stale_after": "1d"})
        context = served.context(as_of)
        context.started = began or context.started
        Runner(context, [PIPELINE[0], monitor.STAGE]).run("monitor", "monitor")

    look(last + timedelta(days=1))
    for as_of, began in ((last + timedelta(days=1, seconds=1), None), (None, last + timedelta(days=2))):
        with pytest.raises(BoundBroken, match=r"No new event has come since 2024-01-03T23:12:00\+00:00\. No scored date") as alarm:
            look(as_of, began)
        assert exit_code(alarm.value) == 4
    look(None, last)
    look(datetime(2024, 1, 2, 10, tzinfo=UTC))  # the last known event is of that morning
    watch(served, stale_after=None)  # without the key nothing is stale, however old the log is


def test_bounds_that_contradict_each_other_are_refused(config: RunConfig) -> None:
    with pytest.raises(ValueError, match=r"calibration_ratio_min \(3\) must be below"):
        MonitorConfig(calibration_ratio_min=3, calibration_ratio_max=2)


def test_the_command_says_when_no_date_has_labels_and_alarms_with_4(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr("pipelines.cli.schedule.PIPELINE", PIPELINE)
    (tmp_path / "demo.yaml").write_text(describe(served.config))

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["monitor", str(tmp_path / "demo.yaml"), "--workspace", str(served.workspace), "--data", str(served.data), *arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err.strip().splitlines()[-1]

    code, out, _ = command()
    assert (code, out) == (0, "no scored date has labels yet; no date is scored yet\n")
    served.run(date=SECOND)
    loose = ("--set", "monitor.calibration_error_max=null", "--set", "monitor.psi_max=null")
    code, out, line = command("--set", "monitor.min_rows=10", "--set", "monitor.auc_min=0.99", *loose)
    assert code == 4
    assert "2024-01-02  1        30    " in out and "BROKEN: auc" in out
    assert line.startswith("ctr-kd: 1 bound is broken. 2024-01-02: auc ")
