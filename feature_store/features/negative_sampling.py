"""Negative sampling: candidates for a log of clicks only, drawn from the items that are live at the moment of the click.

An item is live at t when it was clicked in ``window`` before t and that was known before t. ``by: popularity`` draws one of
those clicks, so an item comes up as often as it was clicked; ``by: uniform`` draws one of those items. The clicked item must
be live by the same rule: otherwise a click on an item without any click in the window would be known for what it is, because
no sampled candidate looks like that. :class:`Support` checks that on every assembly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from feature_store.config import CandidateConfig
from feature_store.config_types import in_microseconds
from feature_store.engines import Engine
from feature_store.features.summary import SupportShares
from feature_store.features.timelines import Timelines
from feature_store.tables.contracts import DataError

LIVE = "coalesce(c.n, 0) - coalesce(l.n, 0) > 0"  # the clicked item has a click in the window
ROUNDS = 3  # of draws
BUCKETS = {"0": 0, "1": 1, "2": 2, "3-5": 3, "6-20": 6, "21-100": 21, "101+": 101}  # first count of each


class Sampler:
    """Draws candidates for the requests of a chunk.

    The draws are a hash of the seed, the time of the request, its number among the requests of that microsecond, and the
    number of the draw. They do not depend on chunks, threads, or anything that is known after the request.

    Parameters
    ----------
    engine : Engine
        Holds ``clicks``.
    config : CandidateConfig
    timelines : Timelines
        Made with the window of the candidates.
    """

    def __init__(self, engine: Engine, config: CandidateConfig, timelines: Timelines) -> None:
        self.engine, self.config, self.timelines = engine, config, timelines
        self.window = in_microseconds(config.window)
        self.slot = max(1, self.window // 4)  # short against the window, so that most items that came up in it are still live
        self.requests_short = 0
        engine.table("click_order", "candidates/click_order.sql", clicks=timelines.log.label_clicks)
        if config.by == "uniform":
            steps = self.window // self.slot + 2
            engine.table("pool_slots", "candidates/pool_slots.sql", slot=self.slot, window=self.window, steps=steps)
            engine.table("slot_counts", "statistics/counts.sql", keys="slot", moment="moment", source="pool_slots", columns="")

    def keep_live(self) -> None:
        """Table ``kept_requests``: the ``seen_requests`` whose clicked item is live, with their pool."""
        self.engine.table("kept_requests", "candidates/live_requests.sql", left=self.timelines.left(self.config.window), eligible=LIVE)

    def sample(self) -> None:
        """Table ``sampled_candidates`` (request, item_code) for ``kept_requests``: distinct items, never the clicked one."""
        self.requests_short += draw_items(self.engine, self.config.seed, self.config.per_click, ROUNDS, self._accept)

    def _accept(self, span: Span) -> None:
        if self.config.by == "popularity":
            self.engine.view("accepted", "candidates/accepted_popularity.sql", first=span.first, last=span.last, window=self.window)
        else:
            slots = {"first": span.start // self.slot, "last": span.end // self.slot, "slot": self.slot}
            self.engine.view("accepted", "candidates/accepted_uniform.sql", left=self.timelines.left(self.config.window), **slots)


class Span(NamedTuple):
    """What requests reach: positions [first, last) of ``click_order``, times [start, end] in microseconds."""

    first: int
    last: int
    start: int
    end: int


def draw_items(engine: Engine, seed: int, per_request: int, rounds: int, accept: Callable[[Span], None]) -> int:
    """Table ``sampled_candidates`` (request, item_code): for each of ``kept_requests`` the first distinct items that are accepted.

    Parameters
    ----------
    engine : Engine
        Holds ``kept_requests`` with ``request``, ``tie``, ``item_code`` (of the click), ``timestamp``, ``pool_from`` and ``pool_until``.
    seed : int
    per_request : int
        Items that each request asks for.
    rounds : int
        Each draws twice as often as the one before, for the requests that still lack items.
    accept : callable
        Takes the reach of these requests, and makes the view ``accepted`` (request, k, item_code) of ``draws``.

    Returns
    -------
    int
        Requests that were left with fewer items.
    """
    engine.table("sampled_candidates", "select request, item_code from kept_requests where false")
    engine.table("short_requests", "candidates/short_requests.sql", requests="kept_requests", per_click=per_request)
    since, until = 0, per_request + 2
    for _ in range(rounds):
        span = Span(*engine.rows("select min(pool_from), max(pool_until), min(timestamp), max(timestamp) from short_requests")[0])
        if span.first is None:
            break
        engine.view("draws", "candidates/draws.sql", seed=seed % 2147483647, since=since, until=until)
        accept(span)
        engine.append("sampled_candidates", "candidates/new_candidates.sql", per_click=per_request)
        engine.table("still_short", "candidates/short_requests.sql", requests="short_requests", per_click=per_request)
        engine.table("short_requests", "select * from still_short")
        since, until = until, until + 2 * (until - since)
    return engine.rows("select count(*) from short_requests")[0][0]


class Support:
    """Checks that the sampler does not give the label away.

    A model that sees only the sampler's own quantity, the clicks of the candidate in the pool's window, must not be able to
    tell clicked from sampled rows by support: no count may occur in one class and be impossible in the other. The count 0
    is impossible for a sampled candidate, hence it must not occur at all.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, len(BUCKETS)), dtype=np.int64)  # (label, bucket)

    def add(self, label: np.ndarray, pool_count: np.ndarray) -> None:
        """Count rows.

        Parameters
        ----------
        label : np.ndarray of 0 and 1, shape (rows,)
        pool_count : np.ndarray of int, shape (rows,)
            Clicks of the row's item in the pool's window.
        """
        bucket = np.searchsorted(np.array(list(BUCKETS.values())), pool_count, side="right") - 1
        self._counts += np.bincount(label.astype(np.int64) * len(BUCKETS) + bucket, minlength=2 * len(BUCKETS)).reshape(2, -1)

    def summary(self) -> SupportShares:
        """Shares of both classes by count, and the AUC of the rule "count 0 means click" (0.5 is as it must be).

        Shares of a class without rows are null.
        """
        rows = self._counts.sum(axis=1, keepdims=True)
        shares = self._counts / np.maximum(rows, 1)
        auc = 0.5 + 0.5 * (shares[1, 0] - shares[0, 0]) if rows.min() > 0 else None
        return SupportShares(
            counts=list(BUCKETS),
            clicked_share=shares[1].round(6).tolist() if rows[1, 0] else None,
            sampled_share=shares[0].round(6).tolist() if rows[0, 0] else None,
            auc_of_count_zero=None if auc is None else round(float(auc), 6),
        )

    def check(self) -> None:
        """Raise DataError when a row of either class has count 0."""
        for label, name in ((1, "clicked"), (0, "sampled")):
            rows, total = int(self._counts[label, 0]), int(self._counts[label].sum())
            if rows:
                raise DataError(
                    f"{rows} of {total} {name} rows are on items without a click in the candidates' window, which tells clicks from "
                    "candidates without any model; the sampler must demand the same of both"
                )
