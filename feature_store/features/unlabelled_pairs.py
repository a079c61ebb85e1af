"""Rows without labels, of users and items that never met, at the times of real training requests.

They are the transfer set of a student, or hard negatives for its teacher. Items of a transfer set are by half near to what the user clicked
before the request, and by half drawn by popularity; hard negatives are all near. Each is live at that time by the rule of
:mod:`feature_store.features.negative_sampling`, with real impressions too: an item that was not clicked before might not have existed,
and a row with it would tell of the future. Histories and statistics are those of any row, by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.config import AssemblyConfig, FeatureStoreConfig
from feature_store.config_types import in_microseconds
from feature_store.engines import Engine, open_engine
from feature_store.features.event_log import Log, load_log
from feature_store.features.histories import build_histories
from feature_store.features.negative_sampling import Span, draw_items
from feature_store.features.requests import number_requests, request_range
from feature_store.features.row_writer import RowWriter
from feature_store.features.summary import ClickSummary
from feature_store.features.time_split import resolve_split
from feature_store.features.timelines import Timelines
from feature_store.features.training_set import item_in_vocabulary
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError, NotIngested
from feature_store.tables.json_files import load_json


class NoPairs(DataError):
    """No row is asked for, or none can be made. The floor that shows the message adds where the amount is set."""


@dataclass(frozen=True)
class Purpose:
    """What the rows are for.

    Attributes
    ----------
    title : str
        In words.
    draws : tuple of str
        How items are drawn, ``neighbours`` or ``popularity``, an equal number of rows each.
    """

    title: str
    draws: tuple[str, ...]


TRANSFER_SET = Purpose("transfer set", ("neighbours", "popularity"))
HARD_NEGATIVES = Purpose("set of hard negatives", ("neighbours",))
ROUNDS = 5  # of draws: most neighbours of a click are not live at the time
SPARE = 2  # proposals per row that is wanted, since some users have no history and some nearly no choice


def write_unmet_rows(
    purpose: Purpose,
    store: Store,
    assembly: Path,
    output: Path,
    *,
    config: AssemblyConfig,
    engine_config: FeatureStoreConfig,
    as_of: datetime | None,
    nearest: np.ndarray,
    amount: float,
    seed: int,
    report: Callable[[str], object] = lambda line: None,
) -> dict[str, int]:
    """Make rows without labels in the layout of ``rows.parquet``.

    Their label is -1, their split ``train``, and their row ids go on after those of the assembly. In order of (timestamp, request,
    row_id). A context column has the value of the request's first row.

    Parameters
    ----------
    purpose : Purpose
    store : Store
        As it was when the assembly was made.
    assembly : Path
        Artifact of :func:`feature_store.features.training_set.assemble` with the same ``config`` and ``as_of``; its statistics count.
    output : Path
        The Parquet file; its folder exists.
    config : AssemblyConfig
        ``candidates.window`` says which items are live.
    engine_config : FeatureStoreConfig
        Memory, threads and requests at a time. The file does not depend on them.
    as_of : datetime, optional
        Logical time of the run.
    nearest : int array (items, k)
        Codes of the items nearest to each item; -1 where there is none.
    amount : float
        Rows as a share of the training rows; equally many of each draw.
    seed : int
    report : callable
        Takes lines of progress.

    Returns
    -------
    dict of str to int
        ``asked`` and ``rows``; rows of each draw, which are equal: where one finds fewer pairs than asked for, so has the other.

    Raises
    ------
    DataError
        When the store is not that of the assembly.
    NoPairs
        When no row is asked for, or no pair is eligible.
    """
    summary = ClickSummary.read(assembly)
    config = summary.assembly(config)
    draws, title = len(purpose.draws), purpose.title
    each = round(amount * summary.rows["train"] / draws)
    if each < 1:
        raise NoPairs(f"a {title} of {amount:g} of {summary.rows['train']:,} training rows has no row; ask for more")
    with open_engine(engine_config, output.parent / "_scratch") as engine:
        log = load_log(engine, store, as_of)
        _same_log(engine, summary, nearest, store)
        number_requests(engine, log)
        split = resolve_split(config.split, engine, as_of)
        engine.load_rows("assembled", assembly / "rows.parquet")
        engine.table("training_requests", "select distinct request from assembled where split = 'train'")
        engine.table("met", "transfer/transfer_met.sql", until=split.train_until)
        build_histories(engine, config.history.max_length)
        maker = UnmetRowMaker(engine, config, log, engine_config.chunk, nearest, seed, purpose.draws)
        first, last = request_range(engine, split.train_from, split.train_until)
        requests = engine.rows("select count(*) from training_requests")[0][0]
        maker.propose(first, last, SPARE * -(-each // requests))
        chosen = maker.choose(each)
        if chosen < each:
            found = f"{draws * chosen:,} of {draws * each:,} rows"
            report(f"{title}: {found}, as no more live items were found that their users had not met")
        if chosen == 0:
            raise NoPairs(
                f"the {title} is empty: no item was live that its user had not met, or none near to a click; use a longer candidates.window"
            )
        vocabulary = load_json(assembly / "vocabulary.json")
        known = item_in_vocabulary(engine, vocabulary["item"])
        with RowWriter(
            engine, log.as_asked(), output, split=split, known_item=known, first_row=sum(summary.rows.values()), shown=False
        ) as writer:
            for _ in maker.chunks(first, last):
                writer.write(maker.timelines)
        writer.support.check()
    report(f"{title}: {writer.written:,} rows without labels at {writer.requests['train']:,} requests")
    return {"asked": draws * each, "rows": writer.written, **dict.fromkeys(purpose.draws, chosen)}


@dataclass
class UnmetRowMaker:
    """Proposes pairs for all training requests, chooses among them, and makes the rows of those chosen, chunk by chunk.

    For each chunk it leaves behind the tables ``kept_requests`` and ``chunk_rows``.

    Parameters
    ----------
    engine : Engine
        Holds what ``log``, ``requests``, ``training_requests``, ``met`` and :func:`feature_store.features.histories.build_histories` say.
    config : AssemblyConfig
    log : Log
    chunk : int
        Requests at a time.
    nearest : int array (items, k)
    seed : int
    draws : tuple of str
        Of a :class:`Purpose`.
    """

    engine: Engine
    config: AssemblyConfig
    log: Log
    chunk: int
    nearest: np.ndarray
    seed: int
    draws: tuple[str, ...]
    timelines: Timelines = field(init=False)

    def __post_init__(self) -> None:
        window = self.config.candidates.window
        self.timelines = Timelines(self.engine, self.config.statistics, self.log, self.log.number, window)
        self._window = in_microseconds(window)
        self.engine.table("click_order", "candidates/click_order.sql", clicks=self.log.label_clicks)
        self.engine.drop("clicks", "label_clicks", "runs")
        item, rank = np.nonzero(self.nearest >= 0)
        columns = {"item_code": item.astype(np.int32), "rank": rank, "neighbour": self.nearest[item, rank].astype(np.int32)}
        self.engine.upload("neighbours", pa.table(columns))

    def propose(self, first: int, last: int, per_request: int) -> None:
        """Table ``proposals`` (draw, request, item_code): of each draw up to ``per_request`` items for each request of [first, last)."""
        engine, by_name = self.engine, {"neighbours": self._draw_neighbours, "popularity": self._draw_popular}
        engine.table("proposals", "select cast(0 as int) as draw, cast(0 as bigint) as request, cast(0 as int) as item_code where false")
        for _ in self._chunks_with(first, last, "training_requests"):
            engine.table("kept_requests", "transfer/transfer_requests.sql")
            engine.table("chunk_met", "select * from met semi join chunk_requests using (user_code)")
            engine.table("chunk_proposals", "select * from proposals where false")
            for number, name in enumerate(self.draws):
                draw_items(engine, self.seed + 7919 * number, per_request, ROUNDS, by_name[name])
                engine.append("chunk_proposals", f"select {number}, request, item_code from sampled_candidates")
            engine.append("proposals", "select * from chunk_proposals")

    def choose(self, rows: int) -> int:
        """Table ``chosen`` (draw, request, item_code): equally many proposals of each draw, at most ``rows``; returns how many."""
        found = dict(self.engine.rows("select draw, count(*) from proposals group by draw"))
        rows = min(rows, *(found.get(draw, 0) for draw in range(len(self.draws))))
        self.engine.table("chosen", "transfer/transfer_chosen.sql", rows=rows, seed=self.seed % 2147483647)
        return rows

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield for each chunk of [first, last) that has chosen rows, its tables made."""
        engine = self.engine
        items = len(self.nearest)
        overall_rate = ", q.overall_rate" if self.log.has_impressions else ""
        for start, end in self._chunks_with(first, last, "chosen"):
            engine.table("kept_requests", "select * from seen_requests")
            engine.table(
                "chunk_rows",
                "transfer/rows_transfer.sql",
                items=items,
                number=self.log.number,
                overall_rate=overall_rate,
                start=start,
                end=end,
            )
            yield start, end

    def _chunks_with(self, first: int, last: int, asked: str) -> Iterator[tuple[int, int]]:
        """Move to each chunk that has requests of the table ``asked``: ``seen_requests`` is made."""
        engine = self.engine
        for start in range(first, last, self.chunk):
            end = min(start + self.chunk, last)
            here = f"request >= {start} and request < {end}"
            engine.table(
                "chunk_requests",
                f"select distinct request, user_code, timestamp from requests semi join {asked} using (request) where {here}",
            )
            bounds = engine.rows("select min(timestamp), max(timestamp) from chunk_requests")[0]
            if bounds[0] is not None:
                self.timelines.move(*bounds)
                self.timelines.see_users(self.config.history.max_length)
                yield start, end

    def _draw_neighbours(self, span: Span) -> None:
        self.engine.view(
            "drawn",
            "transfer/transfer_neighbours.sql",
            nearest=self.nearest.shape[1],
            left=self.timelines.left(self.config.candidates.window),
        )
        self.engine.view("accepted", "transfer/transfer_accepted.sql")

    def _draw_popular(self, span: Span) -> None:
        self.engine.view("drawn", "candidates/accepted_popularity.sql", first=span.first, last=span.last, window=self._window)
        self.engine.view("accepted", "transfer/transfer_accepted.sql")


def _same_log(engine: Engine, summary: ClickSummary, nearest: np.ndarray, store: Store) -> None:
    """Codes of users and items mean the same only as long as the log is the same."""
    for name, expected in (("users", summary.users), ("items", summary.items), ("clicks", summary.clicks)):
        found = engine.rows(f"select count(*) from {name}")[0][0]
        if found != expected:
            raise NotIngested(f"{store.root}: holds {found:,} {name}, the assembly {expected:,}: it was made of another state of the store")
    if len(nearest) != summary.items:
        raise DataError(f"neighbours are given for {len(nearest):,} items, and the assembly has {summary.items:,}: use its own embedding")
