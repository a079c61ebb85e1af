"""What another model said of the rows, as a teacher: a column of the log, or files that are found by request or by user, item and time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.config_teachers import LoggedScoresConfig
from feature_store.readers.base import data_files, data_folder, read_partitioned, relative
from feature_store.store.store import Store
from feature_store.tables.casting import as_array, id_values, number_values, to_text, to_times
from feature_store.tables.contracts import DataError, RawBatch, score_column, score_known_column
from feature_store.tables.equal_rows import number_equal_rows
from feature_store.tables.json_files import digest_of
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks.logits import logits_of
from pipelines.training.facts import TeacherFacts
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import RunContext, StageContext

_BEFORE_ALL = int(np.iinfo(np.int64).min)  # when a score was known of a log that says no times
_NEVER = int(np.iinfo(np.int64).max)  # when one was known whose time is missing, of a log that says them


class Scores(NamedTuple):
    """Scores by user, item and time; all columns have the shape (scores,).

    Attributes
    ----------
    user, item : Array of str
    time : int64 array
        Of the request, microseconds UTC.
    score : float64 array
    known : int64 array
        When each was known, microseconds UTC.
    """

    user: pa.Array
    item: pa.Array
    time: NDArray[np.int64]
    score: NDArray[np.float64]
    known: NDArray[np.int64]


class LoggedScores:
    """See :class:`pipelines.training.teachers.teacher.Teacher`.

    A score that was known after its request is none: whoever gave it may have seen the click.

    Parameters
    ----------
    name : str
    config : LoggedScoresConfig
    context : StageContext

    Raises
    ------
    DataError
        From :meth:`stored`: for what is no score, or for two different scores of one row.
    """

    trained = True

    def __init__(self, name: str, config: LoggedScoresConfig, context: StageContext) -> None:
        self.name, self._config, self._context = name, config, context
        read = scores_digest(config, context.run) if config.path is not None else Artifact(context.inputs["ingest"]).finished.digest
        self.digest = digest_of([config.model_dump(mode="json"), read])[:32]
        self._ids = {kind: read_parquet(context.inputs["ingest"] / f"{kind}s.parquet", columns=[f"{kind}_id"]) for kind in ("user", "item")}
        self._files: Scores | None = None
        self._met: NDArray[np.bool_] = np.zeros(0, bool)  # scores of the files that are of some row
        self._late, self._values = 0, set[float]()  # of all rows that were asked about: late scores, and the first three values

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """Nothing: the model was trained elsewhere."""

    def reads(self, rows: pa.Table) -> pa.Table:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`; it is never asked."""
        return rows.select([])

    def logits(self, rows: pa.Table) -> NDArray:
        """Logits (rows, 1) of rows that nobody scored: none."""
        return np.full((rows.num_rows, 1), np.nan)

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`.

        Raises
        ------
        DataError
            When all scores are classes.
        """
        if self._config.scale == "probability" and self._values == {0.0, 1.0}:
            raise DataError(f"teacher {self.name}: all scores are 0 or 1, which are classes and no probabilities: name another column")
        if self._late:
            self._context.report(
                f"{self.name}: {self._late:,} scores were known after their request, or nobody knows when, and are left out"
            )
        if not self._met.all():
            self._context.report(
                f"{self.name}: {(~self._met).sum():,} of {len(self._met):,} scores are of no row of training, validation and test"
            )
        return TeacherFacts(kind="scores", digest=self.digest)

    def stored(self, rows: pa.Table) -> NDArray:
        """Logits (rows, 1) of the scores, NaN where a row has none that was known in time."""
        score, known = self._of_column(rows) if self._config.column is not None else self._of_files(rows)
        if len(self._values) < 3:
            self._values |= set(np.unique(score[~np.isnan(score)])[:3].tolist())
        late = ~np.isnan(score) & (known > rows["timestamp"].cast(pa.int64()).to_numpy())
        self._late += int(late.sum())
        return logits_of(np.where(late, np.nan, score), self._config.scale)[:, None]

    def _of_column(self, rows: pa.Table) -> tuple[NDArray, NDArray]:
        name = str(self._config.column)
        score, known = np.full(rows.num_rows, np.nan), np.full(rows.num_rows, _BEFORE_ALL)
        if score_column(name) not in rows.column_names:  # nobody was shown them, as those of a transfer set
            return score, known
        score = rows[score_column(name)].to_numpy()
        if score_known_column(name) in rows.column_names:
            known = rows[score_known_column(name)].cast(pa.int64()).fill_null(_NEVER).to_numpy()
        place = first_strange(score, self._config)
        if place is not None:
            item = self._ids["item"]["item_id"][rows["item"][place].as_py()].as_py()
            raise no_score(self.name, self._config, score[place], f"column {name!r} of the log, item {item!r}")
        return score, known

    def _of_files(self, rows: pa.Table) -> tuple[NDArray, NDArray]:
        if self._files is None:
            self._files = self._without_repeats(self._read())
            self._met = np.zeros(len(self._files.time), bool)
        found = self._files
        user = as_text(self._ids["user"]["user_id"].take(rows["user"]))
        item = as_text(self._ids["item"]["item_id"].take(rows["item"]))
        time = rows["timestamp"].cast(pa.int64()).to_numpy()
        # of many rows a piece is asked about at a time, and most scores are of other times
        near = np.flatnonzero((found.time >= time.min(initial=_NEVER)) & (found.time <= time.max(initial=_BEFORE_ALL)))
        index = pa.array(near)
        number = number_equal_rows(
            [
                np.concatenate([found.time[near], time]),
                pa.concat_arrays([found.user.take(index), user]),
                pa.concat_arrays([found.item.take(index), item]),
            ]
        )
        place = np.full(number.max(initial=-1) + 1, -1)
        place[number[: len(near)]] = np.arange(len(near))
        place = place[number[len(near) :]]
        self._met[near[place[place >= 0]]] = True
        known = np.append(found.known[near], _BEFORE_ALL)[place]
        return np.append(found.score[near], np.nan)[place], known

    def _read(self) -> Scores:
        """All scores of the files."""
        config, data = self._config, data_folder(self._context.data, "tabular")
        files, parts = score_files(config, data), []
        for path in files:
            file = relative(path, data)
            parts += [typed_scores(self.name, config, batch) for batch in read_partitioned(path, file, "events", score_columns(config))]
        score = np.concatenate([part.score for part in parts])
        joined = Scores(
            *(pa.concat_arrays([part[place] for part in parts]) for place in (0, 1)),
            *(np.concatenate([part[place] for part in parts]) for place in (2, 3, 4)),
        )
        self._context.report(f"{self.name}: {len(score):,} scores in {len(files):,} files")
        return joined if config.request is None else _of_requests(joined, self._context.store)

    def _without_repeats(self, scores: Scores) -> Scores:
        """Each row's score once. Raises DataError where a row has two that differ."""
        number = number_equal_rows([scores.time, scores.user, scores.item])
        order = np.lexsort([scores.known, number])  # of equal ones the one that was known first stays
        again = np.flatnonzero(np.diff(number[order]) == 0)
        differ = again[scores.score[order[again]] != scores.score[order[again + 1]]]
        if len(differ):
            one, other = order[differ[0]], order[differ[0] + 1]
            raise DataError(
                f"teacher {self.name}: user {scores.user[one].as_py()!r} and item {scores.item[one].as_py()!r} have two scores at one "
                f"time, {scores.score[one]:g} and {scores.score[other]:g} ({len(differ):,} such rows): keep one of them"
            )
        kept = np.sort(np.delete(order, again + 1))
        index = pa.array(kept)
        return Scores(scores.user.take(index), scores.item.take(index), scores.time[kept], scores.score[kept], scores.known[kept])


def scores_digest(config: LoggedScoresConfig, run: RunContext) -> str:
    """Digest of the files of scores."""
    data = data_folder(run.data, "tabular")
    return digest_of(run.memo.digests({path.absolute().as_posix(): path for path in score_files(config, data)}))


def score_files(config: LoggedScoresConfig, data: Path) -> list[Path]:
    """Files of scores below the data folder. Raises DataError where there are none."""
    found = data_files(data, str(config.path))
    if not found:
        raise DataError(f"{data}: no file matches {config.path!r} of the teachers' scores; correct one of them")
    return found


def typed_scores(name: str, config: LoggedScoresConfig, batch: RawBatch) -> Scores:
    """Rows of a file of a teacher's scores, typed; of files by request ``user`` holds the request, and there is no time.

    Raises
    ------
    DataError
        For what is no score, id or time.
    """
    columns = {column: as_array(batch.table[column]) for column in batch.table.column_names}

    def place(bad: NDArray) -> str:
        return f"{batch.file}, row {batch.lines[int(np.flatnonzero(bad)[0])]}"

    score, bad = number_values(columns["score"])
    if bad.any():
        raise DataError(f"teacher {name}: {place(bad)}: the score is no number")
    strange = first_strange(score, config)
    if strange is not None:
        raise no_score(name, config, score[strange], f"{batch.file}, row {batch.lines[strange]}")
    ids = {}
    for what in ("user", "item"):
        ids[what], bad = id_values(columns[what])
        bad = bad | ids[what].is_null().to_numpy(zero_copy_only=False)
        if bad.any():
            raise DataError(f"teacher {name}: {place(bad)}: column {score_columns(config)[what]!r} holds no id")
    times = {}
    for what in ("time", "known"):
        times[what] = np.full(len(score), _BEFORE_ALL)
        if what in columns:
            times[what], empty, bad = to_times(columns[what])
            bad = bad | (empty if what == "time" else False)
            if bad.any():
                raise DataError(f"teacher {name}: {place(bad)}: column {score_columns(config)[what]!r} holds no time")
            times[what] = np.where(empty, _NEVER, times[what])
    return Scores(as_text(ids["user"]), as_text(ids["item"]), times["time"], score, times["known"])


def first_strange(score: NDArray, config: LoggedScoresConfig) -> int | None:
    """Place of the first score that is none on its scale."""
    with np.errstate(invalid="ignore"):
        bad = (score < 0) | (score > 1) if config.scale == "probability" else np.isinf(score)
    return int(np.flatnonzero(bad)[0]) if bad.any() else None


def no_score(name: str, config: LoggedScoresConfig, value: float, place: str) -> DataError:
    """What to say of a score that is none."""
    repair = "correct it, or set scale: logit" if config.scale == "probability" else "correct it"
    return DataError(f"teacher {name}: {place}: {value:g} is no {config.scale}; {repair}")


def as_text(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Ids compare by their text."""
    return as_array(ids).cast(pa.string())


def score_columns(config: LoggedScoresConfig) -> dict[str, str]:
    """Columns of a file by what they hold; ``user`` is the request where that finds the row."""
    columns = {"user": config.user, "time": config.time} if config.request is None else {"user": config.request}
    columns |= {"item": config.item, "score": config.score}
    return columns | ({} if config.known is None else {"known": config.known})


def _of_requests(scores: Scores, store: Store) -> Scores:
    """Scores by request and item as scores by user, item and time, as the store's events know the requests."""
    wanted = ["user_id", "item_id", "timestamp", "request_id"]
    events = pa.concat_tables([read_parquet(file, columns=wanted) for file in store.event_files()], promote_options="permissive")
    events = events.filter(events["request_id"].is_valid())
    request, item = to_text(as_array(events["request_id"]))[0], as_text(events["item_id"])
    number = number_equal_rows([pa.concat_arrays([scores.user, as_text(request)]), pa.concat_arrays([scores.item, item])])
    own, of_events = number[: len(scores.score)], number[len(scores.score) :]
    first = np.full(number.max(initial=-1) + 1, -1)
    first[of_events[::-1]] = np.arange(len(of_events))[::-1]
    place = first[own]
    met = np.flatnonzero(place >= 0)
    if not len(met):
        raise DataError(
            f"no score is of a request and item of the log: request {scores.user[0].as_py()!r} is not in it; correct the columns"
        )
    index = pa.array(place[met])
    time = events["timestamp"].cast(pa.int64()).to_numpy()[place[met]]
    return Scores(as_text(events["user_id"].take(index)), item.take(index), time, scores.score[met], scores.known[met])
