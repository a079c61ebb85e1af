"""Scoring a range of dates: each date by itself, only what is to be done, and exactly what a late day touches."""

from __future__ import annotations

import errno
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from feature_store.features.historical_features import FeatureLookup
from feature_store.store import store
from feature_store.tables.contracts import DataError, StorageError
from pipelines.cli import main as cli
from pipelines.cli.status import first_damage, status
from pipelines.config.run import describe
from pipelines.errors import DatesFailed
from pipelines.exit_codes import exit_code
from pipelines.scoring import feature_join as joining
from pipelines.scoring.backfill import Mode, Outcome, backfill
from pipelines.scoring.partitions import differences, failed_attempts, read_partition, unfinished_path
from pipelines.stages import monitor
from pipelines.tracking.client import tracking_uri
from pipelines.tracking.tracker import Tracker
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.runner import Runner
from tests.pipelines.served import DAYS, IN_PARTS, PIPELINE, Served

pytestmark = pytest.mark.slow

FIRST, SECOND, THIRD = DAYS


def fill(served: Served, mode: Mode = "missing", start: date = FIRST, end: date = THIRD, as_of: datetime | None = None) -> list[Outcome]:
    return backfill(served.ingest(as_of), start, end, mode)


def what(outcomes: list[Outcome]) -> list[str]:
    return [one.what for one in outcomes]


def stale_dates(served: Served) -> list[str]:
    context = served.context()
    context.read_only = True
    lines = status(context, tracking_uri(served.config, served.workspace)).splitlines()
    return [line.removeprefix("scores: ") for line in lines if line.startswith("scores: ") and "stale" in line]


def test_missing_dates_are_scored_once(served: Served) -> None:
    outcomes = fill(served)
    assert what(outcomes) == ["scored"] * 3
    assert [(one.rows, one.version) for one in outcomes] == [(30, "1")] * 3
    before = served.scores()
    assert what(fill(served)) == ["up to date"] * 3
    assert what(fill(served, "failed")) == ["up to date"] * 3
    assert served.scores() == before
    (served.workspace / "scores" / "date=2024-01-02" / "_manifest.json").unlink()
    assert what(fill(served)) == ["up to date", "scored", "up to date"]
    assert what(fill(served, "all")) == ["scored"] * 3
    assert served.scores() == before  # again is the same bytes


def test_a_date_that_fails_leaves_the_others_and_is_remembered_until_it_is_scored(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = joining.Joiner.join

    def breaks(self: Any, table: Any) -> Any:
        if table["timestamp"][0].as_py().date() == SECOND:
            raise DataError("the events of the second day are odd")
        return joined(self, table)

    monkeypatch.setattr(joining.Joiner, "join", breaks)
    outcomes = fill(served)
    assert what(outcomes) == ["scored", "failed", "scored"]
    assert outcomes[1].why == "the events of the second day are odd"
    error = DatesFailed({one.day: one.code for one in outcomes if one.what == "failed"}, 3)
    assert exit_code(error) == 3
    assert "1 of 3 dates failed (2024-01-02)" in str(error)
    monkeypatch.undo()
    assert failed_attempts(served.workspace) == {SECOND: "the events of the second day are odd"}
    assert not list((served.workspace / "scores").glob("*2024-01-02*"))
    outcomes = fill(served, "failed")
    assert what(outcomes) == ["up to date", "scored", "up to date"]
    assert outcomes[1].why == "failed before: the events of the second day are odd"
    assert failed_attempts(served.workspace) == {}


def test_a_date_without_events_fails_and_a_later_delivery_repairs_it(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST, THIRD)
    outcomes = fill(served)
    assert what(outcomes) == ["scored", "failed", "scored"]
    assert "no event on 2024-01-02; the log holds 2024-01-01 to 2024-01-03" in outcomes[1].why
    served.deliver(SECOND)
    assert what(fill(served, "failed")) == ["up to date", "scored", "up to date"]


def test_a_changed_byte_in_a_partition_of_the_log_fails_the_dates_that_read_it_and_no_earlier_one(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", *DAYS)
    served.ingest()
    file = served.workspace / "store" / "events" / "date=2024-01-02" / "events.parquet"
    held = file.read_bytes()
    file.write_bytes(held.replace(b"phone", b"phony"))
    outcomes = fill(served)
    assert what(outcomes) == ["scored", "failed", "failed"]
    assert f"{file}: its sha256 is not that of its manifest" in outcomes[2].why and "restore it from a backup" in outcomes[2].why
    assert {one.code for one in outcomes[1:]} == {3}
    assert list(served.scores()) == ["2024-01-01"]
    file.write_bytes(held)
    assert what(fill(served)) == ["up to date", "scored", "scored"]


class Readings:
    """Every reading of the log for features: until when, and what it answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.until: list[datetime | None] = []
        self.answers: list[dict[str, Any]] = []
        self.break_on: date | None = None
        self.close: Any = FeatureLookup.__exit__
        enter, of = FeatureLookup.__enter__, FeatureLookup.of

        def enters(lookup: FeatureLookup) -> FeatureLookup:
            self.until.append(lookup._as_of)
            return enter(lookup)

        def answers(lookup: FeatureLookup, frame: Any) -> Any:
            if frame["timestamp"][0].as_py().date() == self.break_on:
                raise StorageError("no room")
            answer = of(lookup, frame)
            self.answers.append(answer.to_pydict())
            return answer

        monkeypatch.setattr(FeatureLookup, "__enter__", enters)
        monkeypatch.setattr(FeatureLookup, "of", answers)
        monkeypatch.setattr(FeatureLookup, "__exit__", lambda lookup, *error: self.close(lookup, *error))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    return Readings(monkeypatch)


MIDNIGHTS = [datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3, 4)]  # after each of the dates


def test_a_range_reads_the_log_once_and_joins_what_each_date_by_itself_does(served: Served, readings: Readings) -> None:
    served.change(score=IN_PARTS)
    for day in DAYS:
        served.run(date=day)
    assert readings.until == MIDNIGHTS
    alone, scores = list(readings.answers), served.scores()
    readings.until.clear()
    readings.answers.clear()
    assert what(fill(served, "all")) == ["scored"] * 3
    assert readings.until == MIDNIGHTS[2:]
    assert readings.answers == alone and served.scores() == scores
    assert any(history for answer in alone for history in answer["history"])


def test_a_range_is_read_no_further_than_the_last_date_that_is_asked_for(served: Served, readings: Readings) -> None:
    fill(served)
    (served.workspace / "scores" / "date=2024-01-01" / "scores.parquet").unlink()
    readings.until.clear()
    assert what(fill(served)) == ["scored", "up to date", "up to date"]
    assert readings.until == MIDNIGHTS[:1]


def test_after_a_fault_of_the_reading_each_date_reads_for_itself(served: Served, readings: Readings) -> None:
    readings.break_on = SECOND
    assert what(fill(served)) == ["scored", "failed", "scored"]
    assert readings.until == [MIDNIGHTS[2], MIDNIGHTS[2]]  # that of the range, and that of the third date


def test_another_fault_leaves_the_reading(served: Served, readings: Readings, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST, THIRD)
    assert what(fill(served)) == ["scored", "failed", "scored"]
    assert readings.until == MIDNIGHTS[2:]


def test_a_reading_that_cannot_be_closed_loses_no_date(served: Served, readings: Readings) -> None:
    def gone(*arguments: Any) -> None:
        raise RuntimeError("the engine is gone")

    readings.break_on, readings.close = SECOND, gone
    assert what(fill(served)) == ["scored", "failed", "scored"]
    assert failed_attempts(served.workspace) == {SECOND: "no room"}


def test_a_partition_that_the_disk_does_not_give_fails_no_earlier_date(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served.own_log(tmp_path / "log", *DAYS)
    digest = store.sha256_of

    def unreadable(path: Path) -> str:
        if "date=2024-01-03" in str(path):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return digest(path)

    served.ingest()
    monkeypatch.setattr(store, "sha256_of", unreadable)
    assert what(fill(served)) == ["scored", "scored", "failed"]


def test_a_changed_number_in_a_manifest_of_scores_is_damage_until_the_date_is_scored_again(served: Served) -> None:
    fill(served)
    manifest = served.workspace / "scores" / "date=2024-01-02" / "_manifest.json"
    held = manifest.read_text()
    assert '"rows": 30' in held
    manifest.write_text(held.replace('"rows": 30', '"rows": 31'))
    found = fill(served)
    assert what(found) == ["up to date", "failed", "up to date"]
    assert (found[1].code, str(manifest) in found[1].why) == (3, True)
    damage = first_damage(served.context())
    assert damage is not None and exit_code(damage) == 3 and str(manifest) in str(damage)
    assert f"scores: 2024-01-02 damaged: {manifest}" in status(served.context(), served.registry().uri)
    with pytest.raises(ArtifactError, match=re.escape(str(manifest))):
        Runner(served.context(), [PIPELINE[0], monitor.STAGE]).run("monitor", "monitor")
    assert what(fill(served, mode="failed")) == ["up to date", "scored", "up to date"]
    assert manifest.read_text().count('"rows": 30') == held.count('"rows": 30')
    assert first_damage(served.context()) is None


def test_dates_of_which_all_fail_alike_end_with_their_code_and_others_with_1() -> None:
    assert exit_code(DatesFailed({FIRST: 3, SECOND: 3}, 2)) == 3
    assert exit_code(DatesFailed({FIRST: 3, SECOND: 1}, 2)) == 1


def test_a_late_day_rescores_exactly_what_it_touches(served: Served, tmp_path: Path) -> None:
    """Scores that stand after it are those of a workspace that had the day from the start."""
    served.own_log(tmp_path / "log", FIRST, THIRD)
    fill(served)
    before = served.scores()
    served.deliver(SECOND)
    served.ingest()
    assert [line.split(" ")[0] for line in stale_dates(served)] == ["2024-01-03"]
    assert "stale: the events of 2024-01-02 arrived since" in stale_dates(served)[0]
    assert what(fill(served)) == ["up to date", "scored", "scored"]
    assert served.scores()["2024-01-01"] == before["2024-01-01"]
    assert stale_dates(served) == []
    late = served.scores()
    whole = Served(tmp_path / "whole", served.data, served.config)
    whole.registry()  # its database
    whole.workspace.joinpath("mlflow.db").write_bytes((served.workspace / "mlflow.db").read_bytes())
    fill(whole)
    assert whole.scores() == late


def test_a_corrected_day_leaves_earlier_dates_alone_and_a_new_day_all_of_them(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST, SECOND)
    fill(served, end=SECOND)
    served.deliver(THIRD)
    assert what(fill(served)) == ["up to date", "up to date", "scored"]
    served.deliver(SECOND, slice(0, 24))
    outcomes = fill(served)
    assert what(outcomes) == ["up to date", "scored", "scored"]
    assert outcomes[1].why == "the events of 2024-01-02 were corrected"
    assert (outcomes[1].rows, outcomes[2].rows) == (24, 30)


def test_a_half_written_day_in_the_source_is_refused_and_the_next_run_repairs_it(served: Served, tmp_path: Path) -> None:
    served.own_log(tmp_path / "log", FIRST, SECOND)
    fill(served, end=SECOND)
    before = served.scores()
    served.deliver(THIRD)
    file = served.data / "log_2024-01-03.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])  # the exporter is still at it
    with pytest.raises(DataError, match=r"log_2024-01-03\.parquet"):
        fill(served)
    assert served.scores() == before
    file.write_bytes(whole)
    assert what(fill(served)) == ["up to date", "up to date", "scored"]
    served.deliver(THIRD, slice(0, 12))  # a file that is whole, of a day that is not: it cannot be told, and is corrected later
    fill(served)
    served.deliver(THIRD)
    outcomes = fill(served)
    assert what(outcomes) == ["up to date", "up to date", "scored"]
    assert outcomes[2].rows == 30


def test_a_clock_that_jumps_back_takes_no_rows_away(served: Served) -> None:
    noon = datetime(2024, 1, 3, 12, tzinfo=UTC)
    assert fill(served, as_of=noon)[2].rows == 15  # in the middle of the day there is half of it
    assert stale_dates(served)[0].endswith("stale: it was scored as of 2024-01-03T12:00:00+00:00, not with all events")
    assert fill(served)[2].rows == 30
    before = served.scores()
    assert what(fill(served, as_of=noon)) == ["up to date"] * 3
    assert what(fill(served, "all", as_of=noon)) == ["scored", "scored", "up to date"]
    served.run(as_of=noon, date=THIRD)
    assert served.scores() == before
    assert what(fill(served)) == ["up to date"] * 3


def test_another_model_or_setting_is_said_by_status(served: Served) -> None:
    fill(served)
    served.registry().promote("2")
    assert stale_dates(served)[0] == "2024-01-01 30 rows by demo version 1; stale: champion is version 2 now"
    assert what(fill(served)) == ["up to date"] * 3
    served.change(history={"max_length": 3})
    assert "history has another value" in stale_dates(served)[2]
    outcomes = fill(served)
    assert what(outcomes) == ["scored"] * 3
    assert {one.version for one in outcomes} == {"2"}


def test_an_attempt_that_was_killed_counts_as_failed(served: Served) -> None:
    fill(served)
    unfinished_path(served.workspace, SECOND).mkdir()
    assert failed_attempts(served.workspace) == {SECOND: "it was stopped before its end"}
    assert what(fill(served, "failed")) == ["up to date", "scored", "up to date"]
    assert failed_attempts(served.workspace) == {}


def test_a_registry_without_a_champion_fails_before_any_date(served: Served) -> None:
    served.registry().client.delete_registered_model_alias("demo", "champion")
    outcomes = fill(served)
    assert what(outcomes) == ["failed"] * 3
    assert "has no champion" in outcomes[0].why


def test_what_a_partition_was_made_from_stands_in_its_manifest(served: Served) -> None:
    fill(served, end=SECOND)
    manifest = read_partition(served.workspace, FIRST)
    assert manifest is not None
    assert manifest.made_from is not None and list(manifest.made_from.events) == ["2024-01-01"]
    assert manifest.made_from.as_of is None
    second = read_partition(served.workspace, SECOND)
    assert second is not None and second.made_from is not None
    assert differences(manifest.made_from, second.made_from) == ["the events of 2024-01-02 arrived since"]


def test_the_command_ends_with_a_table_and_the_code_of_the_failures(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.yaml").write_text(describe(served.config))
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr("pipelines.cli.schedule.PIPELINE", PIPELINE)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(
                ["backfill", str(tmp_path / "demo.yaml"), "--workspace", str(served.workspace), "--data", str(served.data), *arguments]
            )
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err.strip().splitlines()[-1]

    code, out, _ = command("--start", "2024-01-02", "--end", "2024-01-03")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["date", "what", "rows"],
        ["2024-01-02", "scored", "30"],
        ["2024-01-03", "scored", "30"],
    ]
    code, out, line = command("--start", "2024-01-03", "--end", "2024-01-04")
    assert code == 3
    assert "2024-01-04  failed" in out
    assert line.startswith("ctr-kd: 1 of 2 dates failed (2024-01-04)")
    assert command("--start", "2024-01-03", "--end", "2024-01-02")[0] == 2
