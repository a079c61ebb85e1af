"""Rows of a Parquet file through a registered student: the same rows come back with their scores."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.export.scoring_statistics import ScoringCounts, ScoringSummary
from feature_store.features.listwise_context import request_columns
from feature_store.features.top_k import keep_best
from feature_store.readers.delimited import require_columns
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sync
from feature_store.tables.json_files import write_json
from feature_store.tables.parquet_files import open_pieces
from pipelines.registry.champion import load_chosen_model
from pipelines.registry.loaded_model import LoadedModel
from pipelines.scoring.executors import score_parts
from pipelines.scoring.feature_join import Joiner, features_of
from pipelines.scoring.manifest import ScoringReport
from pipelines.scoring.new_items import describe_new_items, known_items
from pipelines.scoring.partitions import REPORT
from pipelines.scoring.parts import Part, PartsFolder, in_parts
from pipelines.workspace.context import RunContext
from pipelines.workspace.lock import workspace_lock

HASHED = 1 << 20  # rows at a time
LARGEST_GROUP = 1 << 25  # rows of a row group whose answers are held at once
_EVER = datetime.max.replace(tzinfo=UTC)


def score_file(run: RunContext, source: Path, target: Path) -> str:
    """Write the rows of a Parquet file, in their order and with all their columns, with ``score`` and ``model_version`` added.

    What the scoring saw is written beside it, as ``NAME.scoring.json``. Until both are written, finished parts lie in ``.NAME.parts``
    beside them; the same scoring, started again after a kill, takes them over.

    Parameters
    ----------
    run : RunContext
    source, target : Path
        Parquet files; the target appears complete or not at all.

    Returns
    -------
    str
        What was done, in a line.

    Raises
    ------
    DataError
        When a required column is missing or has a wrong type, or the file is no Parquet.
    ScoringStopped
        When a worker died, or memory or the disk is full.
    WorkspaceLocked
        When another run writes the same target.
    """
    (uri, version, model), began = load_chosen_model(run), time.monotonic()
    with open_parquet(source) as file, features_of(run) as features:
        joiner = Joiner.of(model, features, run.config)
        names = file.schema_arrow.names
        model.answers.check_columns(names, source)
        if run.config.score.top is not None and "user_id" not in names:
            raise DataError(f"{source}: column user_id is missing; score.top keeps the best rows of each user")
        target.parent.mkdir(parents=True, exist_ok=True)
        place = target.with_name(f".{target.name}.parts")
        with workspace_lock(place, f"ctr-kd score --output {target}", "choose another --output"):
            items = describe_new_items(run, model)
            identity = _identity(source, file)
            settings = {"input": identity, "rows": run.config.score.batch_rows, "model": model.digest, "version": version}
            settings |= {"joined": _joined(run, joiner, names), **known_items(run.store, items)}
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            # columns of an earlier scoring would stay in the file as bytes that nobody reads
            answers_alone = max(sizes, default=0) <= LARGEST_GROUP and not {"score", "model_version"} & set(names)
            folder = PartsFolder(place, settings)
            try:
                # what joins features would rather have texts as they are
                numbered = model.answers.looked_up() if answers_alone and not joiner.lacking(names) else []
                with (
                    open_parquet(source, numbered) as rows,
                    run.console.progress("rows scored", file.metadata.num_rows, "score") as progress,
                ):
                    parts = file_parts(rows, source, joiner, run.config.score.batch_rows, folder.finished.keys())
                    parts = (replace(part, answers_alone=answers_alone) for part in parts)
                    score_parts(
                        model=model,
                        version=version,
                        parts=parts,
                        folder=folder,
                        config=run.config,
                        name=str(source),
                        progress=progress,
                        stopwatch=run.stopwatch,
                        items=items,
                    )
                counts = folder.counts()
                run.report(
                    f"{counts.rows:,} rows scored, {folder.resumed:,} of them by an earlier run; their parts become one file",
                    "score",
                    rows=counts.rows,
                    resumed_rows=folder.resumed,
                )
                whole = folder.path / target.name
                if answers_alone:
                    require_unchanged(source, identity)
                    folder.join_beside(source, sizes, whole)
                else:
                    folder.join(whole)
                keep_best_rows(run, whole)
                sync(whole)
                report = scoring_report(model, counts, began, folder.resumed)
                write_json(target.with_name(f"{target.stem}.{REPORT}"), {"model_uri": uri, "model_version": version} | report.to_json())
                whole.replace(target)
                sync(target.parent)
                run.stopwatch.lap("writing", 2 * target.stat().st_size)
            except BaseException:
                folder.leave()
                raise
            folder.remove()
    return f"{counts.rows:,} rows scored with {uri} (version {version}) in {report.seconds:.1f} s: {target}"


def keep_best_rows(run: RunContext, file: Path) -> int | None:
    """Leave the best ``score.top`` rows of each user in a file that is not published yet; how many, or None where all are kept."""
    if run.config.score.top is None:
        return None
    best = file.with_name(f"{file.name}.best")
    kept = keep_best(file, best, run.config.score.top, run.config.feature_store)
    best.replace(file)
    return kept


def open_parquet(path: Path, numbered: Collection[str] = ()) -> pq.ParquetFile:
    """As :func:`open_pieces`, a Parquet file that somebody gave us; DataError when it is none, or two of its columns have one name."""
    try:
        file = open_pieces(path, numbered)
    except (pa.ArrowInvalid, OSError) as error:
        repair = "write it again; of other formats make one (`pandas.read_csv(...).to_parquet(...)`)"
        raise DataError(f"{path}: is no complete Parquet file ({str(error).splitlines()[0]}); {repair}") from None
    names = file.schema_arrow.names
    require_columns(str(path), names, {name: name for name in names})
    return file


def _identity(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    """What makes a file this one: where it lies, when it was written, and its footer, which describes every column chunk."""
    status = path.stat()
    footer = hashlib.sha256(repr(file.metadata.to_dict()).encode()).hexdigest()
    return {"path": str(path.absolute()), "bytes": status.st_size, "modified": status.st_mtime_ns, "footer": footer}


def require_unchanged(path: Path, identity: dict[str, Any]) -> None:
    """Raise DataError where a file is another one than when its rows were read."""
    with open_parquet(path) as file:
        if _identity(path, file) != identity:
            raise DataError(f"{path} changed while it was scored; give the same command again")


def _joined(run: RunContext, joiner: Joiner, names: Sequence[str]) -> dict[str, Any]:
    """What decides the columns that a file of these columns lacks; nothing where it carries all of them."""
    lacking = joiner.lacking(names)
    if not lacking or joiner.made_as is None:
        return {}
    store = run.store
    digests = {"events": store.partition_digests(), "users": store.users_digest(), "contract": store.contract.to_json()}
    digests |= {} if store.log_contract.item_facts is None else {"items": store.described_digest("items", _EVER)}
    as_of = None if run.as_of is None else run.as_of.isoformat()
    return {
        "columns": lacking,
        **digests,
        "settings": joiner.made_as.model_dump(mode="json", include={"history", "statistics"}),
        "as_of": as_of,
    }


def file_parts(file: pq.ParquetFile, name: Path, joiner: Joiner, size: int, finished: Set[int] = frozenset()) -> Iterator[Part]:
    """Parts of a file with what they lack; of those that are finished, only some are given, and without it."""
    # where requests are kept whole, parts differ in size: only reading from the beginning tells where one begins
    whole = joiner.compares_candidates(file.schema_arrow.names)
    first = 0 if whole else next(number for number in range(len(finished) + 1) if number not in finished)
    if first and first * size >= file.metadata.num_rows:
        return
    if whole:
        check_requests_stand_together(file, name)
    for part in in_parts(_tables(file, name, first * size, size), size, first, whole):
        if part.number in finished:
            yield part
            continue
        try:
            yield replace(part, features=joiner.features(part.rows))
        except DataError as error:
            raise type(error)(f"{name}, rows from {part.first + 1:,} on: {error}") from None


def check_requests_stand_together(file: pq.ParquetFile, name: Path) -> None:
    """Raise DataError where a request goes on behind another one: in parts, its candidates would be compared with some of theirs alone."""
    columns = [column for column in ("timestamp", "user_id", "request_id") if column in file.schema_arrow.names]
    if "request_id" not in columns:
        return  # what joins the features says so
    import pandas as pd  # late, for commands that have nothing to do

    begun: list[np.ndarray] = [np.empty(0, np.uint64)]
    last: Any = None
    for table in _tables(file, name, 0, HASHED, columns):
        if not table.num_rows:
            continue
        time, request_id, user_id = request_columns(table)
        users = {} if user_id is None else {"user_id": user_id.to_pandas()}
        rows = pd.DataFrame({"timestamp": time, "request_id": request_id.to_pandas(), **users})
        request = pd.util.hash_pandas_object(rows, index=False).to_numpy()
        begins = np.append(last is None or request[0] != last, request[1:] != request[:-1])
        begun.append(request[begins & rows["request_id"].notna().to_numpy()])
        last = request[-1]
    requests = np.concatenate(begun)
    if len(np.unique(requests)) < len(requests):
        by = " and ".join(filter(None, [", ".join(columns[:-1]), columns[-1]]))
        raise DataError(f"{name}: rows of one request do not stand together, and its candidates are compared; sort the rows by {by}")


def _tables(file: pq.ParquetFile, name: Path, first: int, size: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Rows of a file from one on, with all columns or some; the row groups before it are not read."""
    group, begin = 0, 0
    while group < file.num_row_groups and begin + file.metadata.row_group(group).num_rows <= first:
        begin += file.metadata.row_group(group).num_rows
        group += 1
    yield file.schema_arrow.empty_table()
    try:
        # one after the other: a batch of two would need one dictionary of the texts in lists, which Arrow does not make
        for one in range(group, file.num_row_groups):
            for batch in file.iter_batches(size, row_groups=[one], columns=columns):
                yield pa.Table.from_batches([batch.slice(min(max(0, first - begin), batch.num_rows))])
                begin += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name}: cannot be read from row {begin + 1:,} on ({str(error).splitlines()[0]}); write it again") from None


def scored_batches(run: RunContext, model: LoadedModel, file: pq.ParquetFile, name: Path) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Pieces of a file with their scores, (rows,) or (rows, classes)."""
    model.answers.check_columns(file.schema_arrow.names, name)
    with features_of(run) as features:
        for part in file_parts(file, name, Joiner.of(model, features, run.config), run.config.score.batch_rows):
            if not part.rows.num_rows:
                return
            try:
                scores = model.score(part.complete)
            except ValueError as error:  # of the model's own scorer, which cannot know our exceptions
                raise DataError(f"{name}, rows from {part.first + 1:,} on: {error}") from None
            yield part.rows, scores


def scoring_report(model: LoadedModel, counts: ScoringCounts, began: float, resumed: int = 0) -> ScoringReport:
    """What a scoring saw and how fast it was.

    Parameters
    ----------
    model : LoadedModel
    counts : ScoringCounts
    began : float
        Of ``time.monotonic``.
    resumed : int
        Rows that an earlier, killed run had scored: they took none of the seconds.
    """
    seconds = time.monotonic() - began
    speed = {"seconds": round(seconds, 3), "resumed_rows": resumed, "rows_per_second": round((counts.rows - resumed) / seconds, 1)}
    return ScoringReport.from_json({**ScoringSummary.of(counts, model.edges, model.reference).to_json(), **speed})
