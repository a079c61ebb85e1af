"""What a configured teacher says of the rows of a run, asked of nobody twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ctr_kd.config_teachers import TeacherConfig
from ctr_kd.data.disk_arrays import joined, pieces_of
from ctr_kd.data.row_pieces import RowPieces
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import digest_of
from pipelines.tasks import Rows, task_of
from pipelines.tasks.fitting import MOST_FITTED
from pipelines.training.facts import TeacherFacts
from pipelines.training.teachers.choice import make_teacher
from pipelines.training.teachers.leak_check import check_for_leak
from pipelines.training.teachers.ledger import Ledger, LedgerManifest
from pipelines.training.teachers.teacher import Teacher
from pipelines.workspace.context import StageContext

_STOPS_BY = 0.15  # newest share of a fold's rows, by which its training stops


class Judgement(NamedTuple):
    """What a teacher says: logits (rows, outputs) by split, NaN where it says nothing, and what the report says of it."""

    logits: dict[str, NDArray]
    facts: TeacherFacts


def judge(context: StageContext, config: TeacherConfig, asked: Mapping[str, RowPieces]) -> Judgement:
    """Ask a teacher about rows; it is fitted only where the ledger lacks some of them.

    Parameters
    ----------
    context : StageContext
        With artifacts of ``ingest`` and ``finetune``.
    config : TeacherConfig
    asked : mapping of str to RowPieces
        Rows by split, in the layout of the assembly; ``transfer`` may be among them. A piece of them is held at a time, but for what a
        teacher learns from itself, and out of fold.

    Raises
    ------
    DataError
        When too few of the training rows have a logged score, or a teacher cannot be asked.
    """
    rows = task_of(context.config).rows(context.inputs["ingest"])
    teacher = _Asked(context, make_teacher(config, context), rows)
    of_full_stream = config.kind in ("scores", "model")

    def about(table: pa.Table) -> NDArray:
        found = teacher.about(table)
        return of_kept_rows(found, rows.negative_sampling_rate) if of_full_stream else found

    logits = {
        split: joined(map(about, pieces), pieces.count, context.output)
        for split, pieces in asked.items()
        if not (config.out_of_fold and split == "train")
    }
    if config.out_of_fold and "train" in asked:
        logits["train"] = _out_of_fold(context, config, asked["train"].whole, rows)
    coverage = {split: _coverage(logits[split]) for split in asked}
    _check_coverage(config, coverage)
    if "train" in logits:
        _refuse_nothing(config, logits["train"])
    facts = teacher.facts().model_copy(update={"coverage": coverage})
    if {"train", "validation"} <= set(logits):
        on_validation = rows.evaluation_rows("validation")
        newest = rows.evaluation_rows("train", newest=len(on_validation.label))  # they lie nearest to validation
        leak = check_for_leak(newest, logits["train"][-len(newest.label) :], on_validation, logits["validation"])
        foresees = config.name == "bert" and context.config.teacher_only.future_clicks > 0
        facts = facts.model_copy(update={"leak": leak.model_copy(update={"foresees": True}) if foresees else leak})
    for line in (*_doubts(config, logits), *_remarks(config, facts)):
        context.report(line)
    return Judgement(logits, facts)


def of_kept_rows(logits: NDArray, negative_sampling_rate: float | None) -> NDArray:
    """Click logits of the rows that a thinned log kept, which labels and all other teachers speak of, from those of the full stream.

    A model from elsewhere speaks of the full stream. Among the kept rows the odds of a click are higher, by what non-clicks are rarer.

    Examples
    --------
    >>> of_kept_rows(np.array([[0.0]]), 0.5).round(4).tolist()
    [[0.6931]]
    """
    if negative_sampling_rate is None or logits.shape[1] > 1:
        return logits
    return np.asarray(logits - np.log(negative_sampling_rate))


class _Asked:
    """A teacher and the ledger of what it said.

    Parameters
    ----------
    context : StageContext
    teacher : Teacher
    rows : Rows
    until : int, optional
        Microseconds UTC before which all that it learns from happened.
    train, validation : Table, optional
        What it learns from; by default the splits of these names.
    """

    def __init__(
        self,
        context: StageContext,
        teacher: Teacher,
        rows: Rows,
        until: int | None = None,
        train: pa.Table | None = None,
        validation: pa.Table | None = None,
    ) -> None:
        digest = teacher.digest if until is None else digest_of([teacher.digest, until])[:32]
        self._teacher, self._ledger = teacher, Ledger(context.workspace, digest, context.report)
        self._rows, self._until, self._learned = rows, until, (train, validation)
        self._fitted = False

    def about(self, table: pa.Table) -> NDArray:
        """Logits (rows, outputs) of rows."""
        stored = None if self._until is not None else self._teacher.stored(table)  # what is stored is of all training rows
        if stored is not None:
            return stored
        read = self._teacher.reads(table)
        known = self._ledger.look_up(read)
        missing = np.ones(table.num_rows, bool) if known is None else np.isnan(known).any(axis=1)
        if known is not None and not missing.any():
            return known
        self._fit()
        place = pa.array(np.flatnonzero(missing))
        answer = np.asarray(self._teacher.logits(table.take(place)), np.float32)
        self._ledger.add(read.take(place), answer, LedgerManifest(name=self._teacher.name, made=datetime.now(UTC), facts=self.facts()))
        if known is None:
            return answer
        known[missing] = answer
        return known

    def facts(self) -> TeacherFacts:
        """Of the teacher, as it was when it was asked first."""
        manifest = self._ledger.manifest
        return self._teacher.facts() if manifest is None else manifest.facts

    def _fit(self) -> None:
        if not self._fitted:
            train, validation = map(self._learned_from, self._learned, ("train", "validation"))
            self._teacher.fit(train, validation, self._until)
            self._fitted = True

    def _learned_from(self, own: pa.Table | None, split: str) -> pa.Table:
        if own is None:  # of a large log all rows would fill the memory, for nothing
            return pa.table({}) if self._teacher.trained else self._rows.read(split, newest=MOST_FITTED)
        return own


def _out_of_fold(context: StageContext, config: TeacherConfig, train: pa.Table, rows: Rows) -> NDArray:
    """Logits (rows, outputs) of training rows, each by a teacher of the rows before its fold; NaN in the first fold, before which none are.

    Each of these trainings stops by the newest of its own rows, so that nothing later has a say in it.
    """
    time = train["timestamp"].cast(pa.int64()).to_numpy()
    edges = np.unique(np.quantile(time, np.linspace(0, 1, config.folds + 1)[1:-1], method="higher"))
    logits: NDArray | None = None
    for number, (begin, end) in enumerate(zip(edges, [*edges[1:], None], strict=True), start=2):
        older = train.filter(pa.array(time < begin))
        judged = (time >= begin) & (True if end is None else time < end)
        cut = np.quantile(older["timestamp"].cast(pa.int64()).to_numpy(), 1 - _STOPS_BY, method="higher")
        learned, stops = (older.filter(pa.array(mask)) for mask in _parted(older, cut))
        for part in (learned, stops):
            if len(pc.unique(part["label"])) < 2:
                raise DataError(
                    f"teacher {config.name}: fold {number} of {config.folds} learns from {older.num_rows:,} older rows, some "
                    "part of them of one label: set fewer folds, or a longer split.train"
                )
        context.report(
            f"{config.name}: fold {number} of {config.folds}, {judged.sum():,} rows by a teacher of {older.num_rows:,} older ones"
        )
        answer = _Asked(context, make_teacher(config, context), rows, int(begin), learned, stops).about(train.filter(pa.array(judged)))
        if logits is None:
            logits = np.full((train.num_rows, answer.shape[1]), np.nan, np.float32)
        logits[judged] = answer
    if logits is None:
        raise DataError(f"teacher {config.name}: all training rows have one time, so that there are no folds; remove out_of_fold")
    return logits


def _parted(rows: pa.Table, cut: int) -> tuple[NDArray, NDArray]:
    """Which rows are older than a time, and which are not."""
    older = rows["timestamp"].cast(pa.int64()).to_numpy() < cut
    return older, ~older


def _coverage(logits: NDArray) -> float:
    """Share of the rows of which a teacher says something."""
    said = sum(int(np.isfinite(logits[here]).all(axis=1).sum()) for here in pieces_of(len(logits)))
    return said / len(logits) if len(logits) else 1.0


def _refuse_nothing(config: TeacherConfig, logits: NDArray) -> None:
    """Raise DataError for a teacher that says nothing, or the same of all training rows."""
    said, first, same = 0, None, True
    for here in pieces_of(len(logits)):
        known = logits[here][np.isfinite(logits[here]).all(axis=1)]
        if len(known):
            first = known[0] if first is None else first
            said, same = said + len(known), same and bool((known == first).all())
    if not said:
        raise DataError(f"teacher {config.name} says nothing of any training row: correct what finds its scores, or leave it out")
    if said > 1 and same:
        raise DataError(f"teacher {config.name} says the same of all {said:,} training rows, which teaches nothing: name another")


def _doubts(config: TeacherConfig, logits: Mapping[str, NDArray]) -> Iterator[str]:
    """A line where a plug-in says probabilities, as it seems by all splits together."""
    pieces = [said[here] for said in logits.values() for here in pieces_of(len(said))]
    if config.kind != "plugin" or any(piece.shape[1] > 1 for piece in pieces):
        return
    if not any(((piece < 0) | (piece > 1)).any() for piece in pieces):
        yield (
            f"warning: teacher {config.name} ({config.plugin}): all logits lie between 0 and 1; are they probabilities? "
            "log(p / (1 - p)) is wanted"
        )


def _check_coverage(config: TeacherConfig, coverage: Mapping[str, float]) -> None:
    if config.scores is None or "train" not in coverage or coverage["train"] >= config.scores.min_coverage:
        return
    place = (
        f"column {config.scores.column!r}, which the store has from source.events.scores"
        if config.scores.column is not None
        else f"files {config.scores.path!r}"
    )
    raise DataError(
        f"teacher {config.name}: {coverage['train']:.1%} of the training rows have a score that was known in time ({place}), and "
        f"min_coverage is {config.scores.min_coverage:g}: correct the columns that find the rows, or lower min_coverage"
    )


def _remarks(config: TeacherConfig, facts: TeacherFacts) -> list[str]:
    """Lines about coverage, and about a teacher that looks better where it teaches."""
    lines = []
    if min(facts.coverage.values(), default=1.0) < 1:
        shown = ", ".join(f"{share:.1%} of {split}" for split, share in facts.coverage.items())
        lines.append(f"{config.name}: has logits of {shown}; rows without one learn from the labels and the other teachers")
    leak = facts.leak
    if leak is None:
        return lines
    if leak.validation.auc == 1:
        lines.append(f"warning: {config.name} ranks all validation rows without a mistake: what it says is the label, or was made of it")
    learned_here, of_texts = config.kind in ("own", "plugin"), leak.training.auc is None
    if leak.beyond_chance and not (learned_here and of_texts):  # of texts out_of_fold is refused, and nothing can be done
        name = "accuracy" if of_texts else "AUC"
        on_train, on_validation = ((one.auc if one.auc is not None else one.accuracy) or 0.0 for one in (leak.training, leak.validation))
        repair = "; out_of_fold: true lets an earlier one judge each row" if learned_here and not config.out_of_fold else ""
        lines.append(
            f"warning: {config.name} has {name} {on_train:.4f} on the newest training rows and {on_validation:.4f} on validation "
            f"({leak.difference:+.4f} [{leak.low:+.4f}, {leak.high:+.4f}]): it has seen the labels of what it teaches{repair}"
        )
    return lines
