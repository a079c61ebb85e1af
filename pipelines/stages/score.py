"""Stage ``score``: a date's candidates, or the rows of a file, through the champion."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ctr_kd.drift import ScoreDistribution
from ctr_kd.scoring_report import EVEN_EDGES, ScoringCounts, count_rows, count_texts, summarise
from feature_store.contracts import DataError
from pipelines.artifacts import MANIFEST, ArtifactError, digest_of, publish_directory, sha256_of, write_json
from pipelines.failures import exit_code, explain
from pipelines.joining import open_joiner
from pipelines.partitions import (
    REPORT,
    SCORES,
    SETTINGS,
    clear_attempt,
    forget_failure,
    is_later,
    is_whole,
    made_from,
    partition_path,
    read_partition,
    record_failure,
    unfinished_path,
)
from pipelines.registry import CHAMPION, LINEAGE, VALIDATION_SCORES, Registry, load_scorer, peek, verify_model
from pipelines.runner import RunContext, Stage, StageContext
from pipelines.stages import score_texts
from pipelines.tracking import TrackingError, tracking_uri

SCORE_COLUMNS = ("request_id", "user_id", "item_id", "timestamp")


def model_uri(run: RunContext) -> str:
    """The model to score with: the one that was named, or the champion."""
    return run.options.get("model") or f"models:/{run.config.name}@{CHAMPION}"


def model_version(run: RunContext) -> str:
    """Version behind the model's URI, as far as it has one.

    Raises
    ------
    TrackingError
        When the alias names no version.
    """
    uri = model_uri(run)
    if not uri.startswith("models:/"):
        return uri
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        return name.rpartition("/")[2]
    version = peek(tracking_uri(run.config, run.workspace), name, alias)
    if version is None:
        raise TrackingError(f"{name} has no {alias}: no student has passed the gate yet; run `ctr-kd register` or `ctr-kd promote`")
    return version


def scoring_date(run: RunContext) -> date:
    """The date that was named, or the last one of the test window.

    Raises
    ------
    DataError
        When none was named and there is no test window yet.
    """
    if run.options.get("date"):
        return run.options["date"]
    if "ingest" not in run.artifacts:
        raise DataError("no date was named and no rows are assembled yet; name one with --date, or run `ctr-kd ingest`")
    summary = json.loads((run.artifacts["ingest"].path / "summary.json").read_text(encoding="utf-8"))
    return (datetime.fromisoformat(summary["split"]["test_until"]) - timedelta(microseconds=1)).date()


def partition(run: RunContext) -> Path:
    """Where the scores lie."""
    if score_texts.is_asked(run):
        return score_texts.partition(run)
    return partition_path(run.workspace, scoring_date(run))


def inputs(run: RunContext) -> dict[str, str]:
    """The date, the model, and what the store holds for that date: a later day of the log changes nothing of it."""
    model = {"model": f"{model_uri(run)} version {model_version(run)}"}
    if score_texts.is_asked(run):
        return model | score_texts.inputs(run)
    day = scoring_date(run)
    return {
        "date": day.isoformat(),
        **model,
        "made_from": digest_of(made_from(run.store, run.config, day, run.as_of)),
    }


def partition_stands(context: StageContext) -> bool:
    """Whether the partition is there, whole, and was made by this very scoring; another model may have written it since."""
    if score_texts.is_asked(context.run):
        return score_texts.stands(context)
    day = scoring_date(context.run)
    manifest = read_partition(context.workspace, day)
    return manifest is not None and manifest.get("fingerprint") == context.fingerprint and is_whole(context.workspace, day, manifest)


def run(context: StageContext) -> None:
    """Score the date's candidates into one partition, which appears complete or not at all; a failure is remembered with its reason."""
    if score_texts.is_asked(context.run):
        score_texts.score_split(
            context, load_model(context.run), {"model_uri": model_uri(context.run), "model_version": model_version(context.run)}
        )
        return
    day = scoring_date(context.run)
    origin = made_from(context.store, context.config, day, context.as_of)
    standing = read_partition(context.workspace, day)
    if standing is not None and is_later(standing["made_from"], origin) and is_whole(context.workspace, day, standing):
        # A clock that jumped back must not take rows away that are already scored.
        path = partition_path(context.workspace, day)
        context.report(
            f"{path} was scored at a later logical time than {origin['as_of']} and stays; remove it to score the date as of then"
        )
        write_json(context.output / "summary.json", {"date": day.isoformat(), "kept": standing["fingerprint"]})
        return
    try:
        score_date(context, day, origin)
    except Exception as error:
        clear_attempt(context.workspace, day)
        record_failure(context.workspace, day, explain(error, context.workspace), exit_code(error))
        raise
    forget_failure(context.workspace, day)


def score_date(context: StageContext, day: date, origin: dict[str, Any]) -> None:
    """Write the partition of a date, with ``origin`` in its manifest."""
    began = time.monotonic()
    config, version = context.config, model_version(context.run)
    model = load_model(context.run)
    counts = ScoringCounts()
    temporary = unfinished_path(context.workspace, day)
    clear_attempt(context.workspace, day)
    temporary.mkdir(parents=True)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    batches = candidate_batches(context, day)
    first = next(batches)
    named = [first.schema.field(name) for name in SCORE_COLUMNS]
    schema = pa.schema([*named, pa.field("score", pa.float64()), pa.field("model_version", pa.string())])
    with (
        pq.ParquetWriter(temporary / SCORES, schema) as writer,
        open_joiner(context.run, model.scorer.signature, midnight) as joiner,
        context.progress("candidates scored", total=None) as progress,
    ):
        for batch in chain([first], batches):
            joined = joiner.join(batch)
            scores = model.scorer.score(joined)
            counts += model.count(joined, scores)
            columns = [*(batch[name] for name in SCORE_COLUMNS), pa.array(scores, pa.float64()), pa.repeat(version, batch.num_rows)]
            writer.write_table(pa.table(columns, schema=schema))
            progress.advance(batch.num_rows)
    context.report(f"{counts.rows:,} candidates of {day} scored")
    rows = counts.rows
    facts = {"date": day.isoformat(), "rows": rows, "model": config.name, "model_uri": model_uri(context.run), "model_version": version}
    report = scoring_report(model, counts, began)
    write_json(temporary / REPORT, facts | report)
    files = {name: {"sha256": sha256_of(temporary / name)} for name in (SCORES, REPORT)}
    made = {**facts, "fingerprint": context.fingerprint, "made_from": origin, "report": report, "files": files}
    write_json(temporary / MANIFEST, made)
    publish_directory(temporary, partition_path(context.workspace, day))
    write_json(context.output / "summary.json", facts | report)
    psi = report["scores"]["psi"]
    context.record({"rows": rows, "rows_per_second": report["rows_per_second"]} | ({} if psi is None else {"psi": psi}))


def scoring_report(model: ServedModel, counts: ScoringCounts, began: float) -> dict[str, Any]:
    """What a scoring saw and how fast it was; see :func:`ctr_kd.scoring_report.summarise`. ``began`` is of ``time.monotonic``."""
    seconds = time.monotonic() - began
    speed = {"seconds": round(seconds, 3), "rows_per_second": round(counts.rows / seconds, 1)}
    return {**summarise(counts, model.edges, model.reference), **speed}


def candidate_batches(context: StageContext, day: date) -> Iterator[pa.Table]:
    """What is to be scored, in order of time and request, in tables of at most ``score.batch_rows``; at least one table."""
    from feature_store.serving import candidate_batches_on

    config, size = context.config, context.config.score.batch_rows
    for part in candidate_batches_on(context.store, day, config.assembly, config.feature_store, context.as_of, config.score.candidates):
        for begin in range(0, part.num_rows, size):
            yield part.slice(begin, size)


def score_file(run: RunContext, source: Path, target: Path, batch_rows: int | None = None) -> str:
    """Write the rows of a Parquet file, in their order and with all their columns, with ``score`` and ``model_version`` added.

    What the scoring saw is written beside it, as ``NAME.scoring.json``.

    Parameters
    ----------
    run : RunContext
    source, target : Path
        Parquet files; the target appears complete or not at all.
    batch_rows : int, optional
        Rows in memory at a time; ``score.batch_rows`` by default.

    Returns
    -------
    str
        What was done, in a line.

    Raises
    ------
    DataError
        When a required column is missing or has a wrong type, or the file is no Parquet.
    """
    model, version, began = load_model(run), model_version(run), time.monotonic()
    temporary = target.with_name(f".{target.name}.tmp")
    counts = ScoringCounts()
    try:
        with open_parquet(source) as file:
            schema = scored(file.schema_arrow.empty_table(), model.answer(model.nothing()), version).schema
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(temporary, schema) as writer:
                for table, scores, counted in scored_batches(run, model, file, source, batch_rows or run.config.score.batch_rows):
                    writer.write_table(scored(table, model.answer(scores), version))
                    counts += counted
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    report = scoring_report(model, counts, began)
    write_json(target.with_name(f"{target.stem}.{REPORT}"), {"model_uri": model_uri(run), "model_version": version} | report)
    return f"{counts.rows:,} rows scored with {model_uri(run)} (version {version}) in {report['seconds']:.1f} s: {target}"


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file that somebody gave us; DataError when it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is no complete Parquet file ({str(error).splitlines()[0]}); write it again") from None


def scored_batches(
    run: RunContext, model: ServedModel, file: pq.ParquetFile, name: Path, size: int
) -> Iterator[tuple[pa.Table, np.ndarray, ScoringCounts]]:
    """Pieces of a file with their scores, (rows,) or (rows, classes), and what was counted of them."""
    if not model.has_classes:
        check_columns(file.schema_arrow, name)
    done = 0
    with open_joiner(run, model.scorer.signature) as joiner:
        for batch in file.iter_batches(size):
            table = pa.Table.from_batches([batch])
            try:
                joined = joiner.join(table)
                scores = model.scorer.score(joined)
            except (DataError, ValueError) as error:  # ValueError: of the model's own scorer, which cannot know our exceptions
                raise DataError(f"{name}, rows from {done + 1:,} on: {error}") from None
            yield table, scores, model.count(joined, scores)
            done += table.num_rows


def check_columns(schema: pa.Schema, name: Path) -> None:
    """Raise DataError unless a file has the columns that a row needs."""
    for column in ("item_id", "timestamp"):
        if column not in schema.names:
            raise DataError(f"{name}: column {column} is missing; a row needs item_id, timestamp, and history or user_id")
    if "history" not in schema.names and "user_id" not in schema.names:
        raise DataError(f"{name}: column history is missing, and so is user_id by which it could be joined; a row needs one of them")


def scored(table: pa.Table, answer: Mapping[str, pa.Array], version: str) -> pa.Table:
    """A table with what the model says of its rows, and the model's version."""
    for name, column in {**answer, "model_version": pa.repeat(version, table.num_rows)}.items():
        if name in table.column_names:  # a file that was scored before is scored anew
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


@dataclass(frozen=True)
class ServedModel:
    """A registered student, ready to score.

    Attributes
    ----------
    scorer : StudentScorer
        The model's own.
    reference : ScoreDistribution or None
        Of the scores of the validation rows; None where it was registered without.
    edges : float array
        Of the bins in which its scores are counted.
    """

    scorer: Any
    reference: ScoreDistribution | None
    edges: NDArray[np.float64]

    @property
    def has_classes(self) -> bool:
        """Whether it says a class of a text, and not whether an item is clicked."""
        return "classes" in self.scorer.signature

    def nothing(self) -> np.ndarray:
        """The scores of no row."""
        return np.zeros((0, len(self.scorer.classes))) if self.has_classes else np.zeros(0)

    def answer(self, scores: np.ndarray) -> dict[str, pa.Array]:
        """Scores as columns: ``score`` of clicks (rows,); ``label``, ``score`` and a column per class of classes (rows, classes)."""
        if not self.has_classes:
            return {"score": pa.array(scores, pa.float64())}
        best = scores.argmax(axis=1)
        columns = {"label": pa.array(self.scorer.classes, pa.string()).take(pa.array(best))}
        columns["score"] = pa.array(scores[np.arange(len(best)), best], pa.float64())
        return columns | {name: pa.array(scores[:, i], pa.float64()) for i, name in enumerate(self.scorer.columns)}

    def count(self, table: pa.Table, scores: np.ndarray) -> ScoringCounts:
        """What a scoring report counts of these rows."""
        if self.has_classes:
            return count_texts(table, scores.max(axis=1, initial=0.0), self.edges)
        return count_rows(self.scorer, table, scores, self.edges)


def load_model(run: RunContext) -> ServedModel:
    """The registered model, after its digests were checked."""
    path = Registry(tracking_uri(run.config, run.workspace), run.config.name).download(model_uri(run))
    known = verify_model(path).get(VALIDATION_SCORES)
    try:
        reference = None if known is None else ScoreDistribution.from_dict(known)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: {VALIDATION_SCORES} of its {LINEAGE} is damaged ({error}); register the student again") from None
    return ServedModel(load_scorer(path), reference, EVEN_EDGES if reference is None else reference.edges)


STAGE = Stage(
    "score",
    run,
    # It scores with the champion, whoever registered it: the model is an input from outside. Of the rows to learn from it reads nothing,
    # so that a day which comes to the log makes no earlier date be scored again.
    keys=("name", "tracking.uri", *SETTINGS),
    code_version=2,
    outside=inputs,
    stands=partition_stands,
    after=("ingest",),
)
