"""A small click world whose true click probabilities are known.

Real logs never say how well a model *could* do. This one does: every impression carries the probability that its
click was drawn from, so the best reachable AUC and a perfect calibration can be compared with the models' figures.

The world has

- **users** with a taste that drifts from day to day (an Ornstein-Uhlenbeck walk in a latent space, read as an interest per category),
  favourite categories, a segment (shown as an attribute), log-normal activity, a usual device, and arrival dates;
- **items** with a category, a subcategory, a hidden quality, and a life: born during the log, decaying in popularity and
  appeal, gone at the end. A few are evergreen. Popularity has a long tail and knows a part of the quality;
- **sessions**: a user comes, makes several requests minutes apart, and what was just clicked moves what is clicked next. The pull
  of a click on i towards j is ``a <v_i, v_j> + b <v_j, Q v_i>`` with Q skew-symmetric: similar items pull both ways, complements
  one way only (a case after a phone, never a phone after a case). The newest click counts most, and its pull fades within
  the hour. A model that averages the history sees what a user likes; only one that reads its *order* sees the pull;
- **a mediocre ranker** that shows what is popular, liked or related to the last click, in the order of stale interest, popularity and
  noise. Deeper positions are examined less, on a phone least: ``P(click) = P(examined | position, device) * sigmoid(relevance)``;
- **context**: the device, and hours at which categories are read.

Users do not influence each other, so a day is simulated in lockstep: step s is the s-th request of every user. Cost is linear in the
impressions, and memory is bounded by one batch and what is known per user. Let ``users`` grow with ``requests``: a day takes as many
steps as its busiest user makes requests.

Measured on the standard settings (60,000 requests, 360,000 impressions; test is the last tenth of the time; seeds 7, 1, 2):

=================================================================================  ===============================
click-through rate; at positions 0 to 5 (seed 7)                                   .150 .157 .156; .30 falling to .07
test impressions of items that no earlier impression showed                        .152 .149 .160
AUC on test
  clicks on the item in the training window                                        .577 .540 .540
  clicks on the item in the last day; its smoothed rate so far                     .638 .616 .607; .650 .634 .636
  logistic regression on as-of statistics, position, device, hour, repeated view   .708 .688 .696
  boosted trees on the same                                                        .712 .700 .703
  + share of the history in the candidate's category and subcategory               .727 .714 .725
  + how often the last click's category leads to the candidate's                   .756 .755 .755
  network on ids, attributes and statistics: averaged history                      .733 .724 .735
  the same network with a GRU over the history                                     .770 .764 .767
  the true probability                                                             .842 .837 .835
=================================================================================  ===============================

The first days of a longer log are *not* the shorter log of the same seed: births, arrivals and requests are spread over all days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.simulator.world import DEVICES, LATENT, ClickWorld, Shelf

# Users from day to day.
DRIFT_STD, DRIFT_KEPT = 0.4, 0.85  # of the taste; correlation from one day to the next
USUAL_DEVICE = 0.85  # share of requests on the user's usual device; the others are on any

# Sessions.
REQUESTS_PER_SESSION, LONGEST_SESSION = 5.0, 20
GAP_SECONDS, GAP_STD, LONGEST_GAP = 90.0, 0.8, 900.0  # between requests: median, standard deviation of the log, most
BUSIEST_HOUR, NIGHT = 19.0, 0.1  # most visits at this hour; 12 hours later NIGHT / (2 + NIGHT) of it

# What a click does to the next ones.
OLDER_CLICK = 0.15  # pull of a click that is one click older
FADE_SECONDS, FADE_FLOOR = 1800.0, 0.1
REMEMBERED, REPEAT_PENALTY = 8, 2.5  # items of the newest clicks are hardly clicked again; log-odds

# Retrieval, ranking, examination, and the log-odds of a click.
POPULAR_SHARE, LIKED_SHARE = 0.65, 0.1  # of the candidates; the rest is related to the last click
RANK_INTEREST, RANK_POPULARITY, RANK_NOISE = 0.5, 0.3, 1.0
EXAMINATION = np.array([0.5, 0.3, 0.4], dtype=np.float32)  # by device: P(examined) = (position + 1) ** -x
INTERCEPT, STALENESS = -2.6, 0.8  # log-odds at birth, and what a whole life takes off

BATCH_ROWS = 500_000
REDRAWS = 6
DAY = 86_400  # seconds


@dataclass(frozen=True)
class Impressions:
    """Requests of one day with their candidates in the order shown, sorted by time.

    Attributes
    ----------
    day : int
        Day of the log, from 0.
    user : ndarray of int32, shape (requests,)
    timestamp : ndarray of int64, shape (requests,)
        Microseconds since 1970 UTC; all rows of a request share it.
    device : ndarray of int8, shape (requests,)
        Index into `DEVICES`.
    item : ndarray of int32, shape (requests, candidates)
        Distinct items; the column is the position.
    probability : ndarray of float64, shape (requests, candidates)
        What `clicked` was drawn from.
    clicked : ndarray of bool, shape (requests, candidates)
    """

    day: int
    user: NDArray[np.int32]
    timestamp: NDArray[np.int64]
    device: NDArray[np.int8]
    item: NDArray[np.int32]
    probability: NDArray[np.float64]
    clicked: NDArray[np.bool_]


def simulate(world: ClickWorld, batch_rows: int = BATCH_ROWS) -> Iterator[Impressions]:
    """Simulate the log, day after day.

    Parameters
    ----------
    world : ClickWorld
        Its configuration and seed decide the log, bit for bit (for one `batch_rows`).
    batch_rows : int
        A day with more impressions comes in several batches, each with other users. A user's day is never cut.

    Yields
    ------
    Impressions
        At least one batch for every day that has requests.

    Examples
    --------
    >>> from feature_store.config import SimulatorConfig
    >>> world = ClickWorld(SimulatorConfig(users=50, items=60, days=2, requests=200))
    >>> sum(len(batch.user) for batch in simulate(world))
    200
    """
    minds = _Minds(world)
    limit = max(1, batch_rows // world.config.candidates)  # requests
    for day in np.flatnonzero(world.requests_per_day).tolist():
        rng = np.random.default_rng([world.config.seed, 1, day])
        user, second = _visits(world, rng, day)
        shelf = Shelf(world, day)
        ends = np.r_[np.flatnonzero(user[1:] != user[:-1]) + 1, len(user)]
        begin = 0
        while begin < len(user):
            fitting = np.searchsorted(ends, begin + limit, side="right") - 1
            end = int(ends[max(fitting, np.searchsorted(ends, begin, side="right"))])
            yield _Day(world, rng, day, shelf, minds).run(user[begin:end], second[begin:end])
            begin = end


def _visits(world: ClickWorld, rng: np.random.Generator, day: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Who asks when: users and seconds of the day of all requests, sorted by both; each (requests,)."""
    requests = int(world.requests_per_day[day])
    lengths = np.minimum(rng.geometric(1 / REQUESTS_PER_SESSION, size=requests), LONGEST_SESSION)
    sessions = int(np.searchsorted(lengths.cumsum(), requests)) + 1
    lengths = lengths[:sessions]
    lengths[-1] -= lengths.sum() - requests  # the last session is cut to the number of requests
    last = lengths.cumsum() - 1
    first = last - lengths + 1
    user = np.searchsorted(world.activity, rng.random(sessions) * world.activity[world.arrived[day] - 1]).astype(np.int32)
    daylight = 1 + NIGHT + np.cos((np.arange(24) - BUSIEST_HOUR) * np.pi / 12)
    begin = 3600.0 * (rng.choice(24, sessions, p=daylight / daylight.sum()) + rng.random(sessions))
    clock = np.minimum(GAP_SECONDS * np.exp(GAP_STD * rng.standard_normal(requests)), LONGEST_GAP).cumsum()
    begin = np.minimum(begin, DAY - 1 - (clock[last] - clock[first]))  # a visit ends before midnight
    second = np.repeat(begin - clock[first], lengths) + clock
    who = np.repeat(user, lengths)
    order = np.lexsort((second, who))
    return who[order], second[order]


class _Minds:
    """What users carry from one request, and one day, to the next.

    Attributes
    ----------
    drift : ndarray of float32, shape (users, LATENT)
        How far the taste has moved.
    memory : ndarray of float32, shape (users, LATENT)
        What the newest clicks were about, the older ones faded.
    clicked_at : ndarray of float64, shape (users,)
        Seconds from the log's start to the newest click.
    recent : ndarray of int32, shape (users, REMEMBERED)
        Items of the newest clicks, newest first; -1 is none.
    """

    def __init__(self, world: ClickWorld) -> None:
        users = world.config.users
        self.drift = np.zeros((users, LATENT), np.float32)
        self.memory = np.zeros((users, LATENT), np.float32)
        self.clicked_at = np.full(users, -np.inf)
        self.recent = np.full((users, REMEMBERED), -1, np.int32)
        self._moved = np.full(users, -1)  # day of `drift`; -1: never seen

    def drift_to(self, rng: np.random.Generator, user: NDArray[np.int32], day: int) -> NDArray[np.float32]:
        """Move the tastes of these users to a day, however long ago they came last. (n, LATENT)"""
        last = self._moved[user]
        kept = np.where(last < 0, 0.0, DRIFT_KEPT ** (day - last)).astype(np.float32)[:, None]
        noise = rng.standard_normal((len(user), LATENT), dtype=np.float32)
        self.drift[user] = kept * self.drift[user] + np.float32(DRIFT_STD) * np.sqrt(1 - kept**2) * noise
        self._moved[user] = day
        return self.drift[user]


class _Day:
    """One day of some users. Arrays named `at` or `n` long are those of one step, the busiest users first."""

    def __init__(self, world: ClickWorld, rng: np.random.Generator, day: int, shelf: Shelf, minds: _Minds) -> None:
        self._world, self._rng, self._day, self._shelf, self._minds = world, rng, day, shelf, minds

    def run(self, user: NDArray[np.int32], second: NDArray[np.float64]) -> Impressions:
        """Show candidates and draw clicks for requests sorted by user and time."""
        world, rng, minds = self._world, self._rng, self._minds
        requests, k = len(user), world.config.candidates
        seconds = self._day * DAY + second  # since the log's start
        hour = (second // 3600).astype(np.int64)
        other = rng.integers(len(DEVICES), size=requests)
        device = np.where(rng.random(requests) < USUAL_DEVICE, world.usual_device[user], other).astype(np.int8)
        item = np.empty((requests, k), np.int32)
        probability = np.empty((requests, k))
        clicked = np.empty((requests, k), np.bool_)

        first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        counts = np.diff(np.r_[first, requests])
        busiest = np.argsort(-counts, kind="stable")  # the users with an s-th request are a prefix: a step takes views, no copies
        first, counts = first[busiest], counts[busiest]
        who = user[first]
        self._stale = world.interest(who)  # what the ranker believes, (users of the day, categories)
        self._interest = world.interest(who, minds.drift_to(rng, who, self._day))
        taste = np.exp(self._stale)
        self._liked = (taste / taste.sum(axis=1, keepdims=True)).cumsum(axis=1)
        self._memory, self._clicked_at, self._recent = minds.memory[who], minds.clicked_at[who], minds.recent[who]
        for step in range(int(counts[0])):
            n = int(np.searchsorted(-counts, -step, side="left"))  # users with more than `step` requests
            at = first[:n] + step
            shown = self._rank(self._retrieve(hour[at]))
            fade = self._fade(seconds[at])
            p = self._click_probability(shown, hour[at], device[at], fade)
            click = rng.random((n, k)) < p
            item[at], probability[at], clicked[at] = shown, p, click
            self._remember(shown, click, fade, seconds[at])
        minds.memory[who], minds.clicked_at[who], minds.recent[who] = self._memory, self._clicked_at, self._recent

        order = np.argsort(second, kind="stable")
        timestamp = world.start_us + (seconds * 1e6).astype(np.int64)
        return Impressions(self._day, user[order], timestamp[order], device[order], item[order], probability[order], clicked[order])

    def _retrieve(self, hour: NDArray[np.int64]) -> NDArray[np.int32]:
        """Draw distinct live candidates from what is popular, liked, or related to the last click, (n, candidates)."""
        world, rng = self._world, self._rng
        n, k = len(hour), world.config.candidates
        source = rng.random((n, k), dtype=np.float32)
        category = np.full((n, k), -1)
        row, column = np.nonzero((source >= POPULAR_SHARE) & (source < POPULAR_SHARE + LIKED_SHARE))
        category[row, column] = (rng.random((len(row), 1), dtype=np.float32) > self._liked[row, :-1]).sum(axis=1)
        last = self._recent[:n, 0]
        row, column = np.nonzero((source >= POPULAR_SHARE + LIKED_SHARE) & (last >= 0)[:, None])
        related = world.related[world.category[last[row]]]  # (entries, related)
        category[row, column] = related[np.arange(len(row)), rng.integers(related.shape[1], size=len(row))]

        shown = self._shelf.draw(rng, np.repeat(hour, k), category.ravel()).reshape(n, k)
        for _ in range(REDRAWS):
            row, column = np.nonzero(_repeats(shown))
            if not len(row):
                return shown
            shown[row, column] = self._shelf.draw(rng, hour[row])
        # Little more than a request's worth of items is live, or one item is all the fashion: evergreens are always there.
        row = np.flatnonzero(_repeats(shown).any(axis=1))
        turn = rng.integers(len(world.evergreen), size=(len(row), 1)) + np.arange(k)
        shown[row] = world.evergreen[turn % len(world.evergreen)]
        return shown

    def _rank(self, shown: NDArray[np.int32]) -> NDArray[np.int32]:
        """Order candidates by stale interest, popularity and noise, (n, candidates)."""
        score = np.float32(RANK_NOISE) * self._rng.standard_normal(shown.shape, dtype=np.float32)
        score += RANK_INTEREST * np.take_along_axis(self._stale[: len(shown)], self._world.category[shown], axis=1)
        score += RANK_POPULARITY * self._world.log_popularity[shown]
        return np.take_along_axis(shown, np.argsort(-score, axis=1), axis=1)

    def _fade(self, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
        """What is left of the newest click's pull, (n, 1): 1 just after the click."""
        gap = seconds - self._clicked_at[: len(seconds)]
        return (FADE_FLOOR + (1 - FADE_FLOOR) * np.exp(-gap / FADE_SECONDS)).astype(np.float32)[:, None]

    def _click_probability(
        self, shown: NDArray[np.int32], hour: NDArray[np.int64], device: NDArray[np.int8], fade: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """The truth, (n, candidates)."""
        world, (n, k) = self._world, shown.shape
        category = world.category[shown]
        relevance = world.quality_effect[shown] + np.take_along_axis(self._interest[:n], category, axis=1)
        relevance += world.hour_effect[hour[:, None], category] + world.device_effect[device[:, None], category]
        relevance -= STALENESS * world.age_share(shown, (24 * self._day + hour)[:, None]).astype(np.float32)
        pull = (self._memory[:n] * fade) @ world.pull.T  # (n, latent)
        relevance += np.einsum("nkd,nd->nk", world.vector[shown], pull)
        relevance -= REPEAT_PENALTY * (shown[:, :, None] == self._recent[:n, None, :]).any(axis=2)
        examined = np.arange(1, k + 1, dtype=np.float32) ** -EXAMINATION[device][:, None]
        probability: NDArray[np.float64] = examined / (1 + np.exp(-(INTERCEPT + relevance.astype(np.float64))))
        return probability

    def _remember(
        self, shown: NDArray[np.int32], click: NDArray[np.bool_], fade: NDArray[np.float32], seconds: NDArray[np.float64]
    ) -> None:
        """Take the clicks of a step into memory.

        The clicks of one request carry one time, so that no log tells their order: they pull together, as their mean.
        """
        row = np.flatnonzero(click.any(axis=1))
        share = click[row] / click[row].sum(axis=1, keepdims=True, dtype=np.float32)
        newest = np.einsum("nk,nkd->nd", share, self._world.vector[shown[row]])
        self._memory[row] = newest + OLDER_CLICK * fade[row] * self._memory[row]
        self._clicked_at[row] = seconds[row]
        for column in range(shown.shape[1]):
            hit = np.flatnonzero(click[:, column])
            self._recent[hit, 1:] = self._recent[hit, :-1]
            self._recent[hit, 0] = shown[hit, column]


def _repeats(rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mark every entry that equals an earlier one of its row, (n, k)."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    repeats = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(repeats, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeats
