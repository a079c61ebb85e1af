"""What the simulator is about: users with tastes, items with lives, and the shelf that items are drawn from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.config import SimulatorConfig

DEVICES: Final = ("mobile", "desktop", "tablet")
SEGMENTS: Final = 8
SUBCATEGORIES: Final = 5  # per category
LATENT: Final = 4  # dimensions of tastes and of what items are about; even, see ClickWorld.pull

# Users. A log-odds of 1 is what makes a click of 15 % one of 32 %.
TASTE, FAVOUR = 0.7, 1.4  # log-odds: standard deviation of the taste for a category, and the lift of a favourite one
FAVOURITE_SHARE = 0.15  # of the categories
SEGMENT_SHARE = 0.3  # of the variance of tastes lies between segments
ACTIVITY_STD = 1.2  # of log activity: the busiest tenth makes half of the requests
ARRIVING_SHARE = 0.3  # users that arrive during the log; the others are there from the start
DEVICE_SHARES = (0.6, 0.3, 0.1)

# Items.
EVERGREEN_SHARE = 0.05
LIFE_STD, SHORTEST_LIFE = 0.5, 6.0  # of log life; hours
QUALITY_STD = 0.9  # log-odds
POPULARITY_STD, POPULARITY_OF_QUALITY = 0.8, 1.0  # log popularity: luck, and what a standard deviation of quality adds
POPULARITY_DECAY = 2.5  # e-foldings over an item's life
SUBCATEGORY_SPREAD = 0.5  # distance from the category's centre
CATEGORY_SKEW, SUBCATEGORY_SKEW = 0.5, 0.7  # exponents of the power laws of their sizes

PICTURE_NOISE = 1.0  # standard deviation of each number of a vector around what the item is about

# What pulls, and when and where things are read; log-odds.
SIMILAR, COMPLEMENT = 1.6, 2.6
RELATED = 4  # categories that a category pulls most
HOUR_STD, DEVICE_STD = 0.2, 0.15


class ClickWorld:
    """The population of one simulated log; nothing in it changes.

    Parameters
    ----------
    config : SimulatorConfig
        Sizes, days and seed.

    Attributes
    ----------
    birth_hour, death_hour : ndarray of int64, shape (items,)
        An item may be shown in the hours ``birth_hour <= h < death_hour``, counted from the log's start.
    category, subcategory : ndarray of int64, shape (items,)
        The subcategory counts from 0 within its category.
    vector : ndarray of float32, shape (items, LATENT)
        What an item is about, of length one.
    picture : ndarray of float32, shape (items, vectors)
        What somebody else made of it, such as a vector of its title: linear in what it is about and in its quality, with noise; only where
        the settings ask for it.
    pull : ndarray of float32, shape (LATENT, LATENT)
        ``v_j @ pull @ v_i`` is the log-odds that a click on i just now adds to a click on j.
    quality_effect, log_popularity : ndarray of float32, shape (items,)
    segment : ndarray of int64, shape (users,)
    taste : ndarray of float32, shape (users, LATENT)
    favourite : ndarray of bool, shape (users, categories)
    activity : ndarray of float64, shape (users,)
        Cumulative rates of visits.
    arrived : ndarray of int64, shape (days,)
        Users that are there on a day; they are the first ones.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.start_us = int(config.start.timestamp()) * 1_000_000
        rng = np.random.default_rng([config.seed, 0])
        self._make_lives(rng)
        self._make_topics(rng)
        self._make_users(rng)
        weekday = (config.start.weekday() + np.arange(config.days)) % 7
        weight = np.where(weekday >= 5, 0.8, 1.0)
        self.requests_per_day = rng.multinomial(config.requests, weight / weight.sum())

    def _make_lives(self, rng: np.random.Generator) -> None:
        config, n, hours = self.config, self.config.items, 24 * self.config.days
        mean = config.item_life.total_seconds() / 3600
        life = np.maximum(mean * np.exp(LIFE_STD * rng.standard_normal(n) - LIFE_STD**2 / 2), SHORTEST_LIFE)
        # Births reach back by a life: the first day is as full as any other, and everything that was born lives to see the log.
        birth = np.floor(rng.random(n) * (hours + life) - life)
        # Evergreens stock every hour with enough distinct items for one request, however small the world is.
        evergreen = max(config.candidates, round(EVERGREEN_SHARE * n))
        birth[:evergreen] = np.minimum(birth[:evergreen], 0) - 24
        life[:evergreen] = hours - birth[:evergreen] + 24 * 30
        order = np.argsort(birth, kind="stable")  # ids grow with birth, as in any catalogue
        self.birth_hour = birth[order].astype(np.int64)
        self.death_hour = np.maximum(self.birth_hour + np.ceil(life[order]).astype(np.int64), 1)
        self.evergreen = np.flatnonzero(order < evergreen).astype(np.int32)

    def _make_topics(self, rng: np.random.Generator) -> None:
        config, n, categories = self.config, self.config.items, self.config.categories
        quality = rng.standard_normal(n)
        self.quality_effect = (QUALITY_STD * quality).astype(np.float32)
        self.log_popularity = (POPULARITY_STD * rng.standard_normal(n) + POPULARITY_OF_QUALITY * quality).astype(np.float32)
        self.category = rng.choice(categories, n, p=_power_law(categories, CATEGORY_SKEW))
        self.subcategory = rng.choice(SUBCATEGORIES, n, p=_power_law(SUBCATEGORIES, SUBCATEGORY_SKEW))

        center = _unit(rng.standard_normal((categories, LATENT)))
        topic = _unit(center[:, None] + SUBCATEGORY_SPREAD * _unit(rng.standard_normal((categories, SUBCATEGORIES, LATENT))))
        vector = topic[self.category, self.subcategory] + config.item_spread * _unit(rng.standard_normal((n, LATENT)))
        self.center = center.astype(np.float32)  # (categories, latent)
        self.vector = _unit(vector).astype(np.float32)
        if config.vectors:  # of their own seed: the rest of the world is the same with them and without
            seen = np.random.default_rng([config.seed, 1])
            picture = np.concatenate([self.vector, quality[:, None]], axis=1) @ seen.standard_normal((LATENT + 1, config.vectors))
            self.picture = (picture + PICTURE_NOISE * seen.standard_normal(picture.shape)).astype(np.float32)
        # Quarter turns in LATENT / 2 planes are skew-symmetric: no item complements itself, and if j complements i, i repels j.
        basis = np.linalg.qr(rng.standard_normal((LATENT, LATENT)))[0]
        turn = basis @ np.kron(np.eye(LATENT // 2), np.array([[0.0, -1.0], [1.0, 0.0]])) @ basis.T
        self.pull = (SIMILAR * np.eye(LATENT) + COMPLEMENT * turn).astype(np.float32)
        pulled = center @ self.pull @ center.T  # [j, i]: category i pulls j
        self.related = np.argsort(-pulled, axis=0)[: min(RELATED, categories)].T  # (categories, related)

        peak = rng.random(categories) * 24  # hour at which a category is read most
        self.hour_effect = (HOUR_STD * np.sqrt(2) * np.cos((np.arange(24)[:, None] - peak) * np.pi / 12)).astype(np.float32)
        self.device_effect = (DEVICE_STD * rng.standard_normal((len(DEVICES), categories))).astype(np.float32)

    def _make_users(self, rng: np.random.Generator) -> None:
        config, n = self.config, self.config.users
        self.segment = rng.integers(SEGMENTS, size=n)
        shared = rng.standard_normal((SEGMENTS, LATENT), dtype=np.float32)[self.segment]
        own = rng.standard_normal((n, LATENT), dtype=np.float32)
        self.taste = np.float32(SEGMENT_SHARE**0.5) * shared + np.float32((1 - SEGMENT_SHARE) ** 0.5) * own
        self.favourite = rng.random((n, config.categories), dtype=np.float32) < FAVOURITE_SHARE
        self.usual_device = rng.choice(len(DEVICES), n, p=DEVICE_SHARES).astype(np.int8)
        self.activity = np.exp(ACTIVITY_STD * rng.standard_normal(n)).cumsum()
        arriving = round(ARRIVING_SHARE * n) if config.days > 1 else 0
        arrivals = np.sort(rng.integers(1, max(config.days, 2), size=arriving))
        self.arrived = n - arriving + np.searchsorted(arrivals, np.arange(config.days), side="right")

    def interest(self, user: NDArray[np.int32], drift: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Log-odds of these users for every category, (n, categories); `drift` (n, LATENT) moves their tastes."""
        taste = self.taste[user] if drift is None else self.taste[user] + drift
        result: NDArray[np.float32] = TASTE * taste @ self.center.T + FAVOUR * (self.favourite[user] - np.float32(FAVOURITE_SHARE))
        return result

    def age_share(self, items: NDArray[Any], hours: NDArray[Any]) -> NDArray[np.float64]:
        """Age as a share of the item's life, from 0 at birth to 1 at death. Shapes broadcast."""
        birth = self.birth_hour[items]
        share: NDArray[np.float64] = np.clip((hours - birth) / (self.death_hour[items] - birth), 0.0, 1.0)
        return share


class Shelf:
    """What is live in each hour of one day, with its weights, and how to draw from it.

    Live items are sorted by category, so that a category is a run of the hour's cumulative weights: "any item" and "an item of
    category c" are the same draw from a longer or a shorter run.

    Parameters
    ----------
    world : ClickWorld
    day : int
        Day of the log, from 0.
    """

    def __init__(self, world: ClickWorld, day: int) -> None:
        first = 24 * day
        live = np.flatnonzero((world.birth_hour < first + 24) & (world.death_hour > first))
        self.items = live[np.argsort(world.category[live], kind="stable")]
        hours = first + np.arange(24)[:, None]  # (24, 1)
        weight = np.exp(world.log_popularity[self.items] - POPULARITY_DECAY * world.age_share(self.items, hours))  # (24, live)
        weight[(world.birth_hour[self.items] > hours) | (world.death_hour[self.items] <= hours)] = 0.0
        total = weight.cumsum(axis=1)
        total /= total[:, -1:]
        edges = np.searchsorted(world.category[self.items], np.arange(world.config.categories + 1))
        self._edges = np.concatenate([np.zeros((24, 1)), total], axis=1)[:, edges]  # (24, categories + 1)
        # Hour h occupies [h, h + 1) of one long ladder: a single search serves requests of all hours.
        self._ladder = (total + np.arange(24)[:, None]).ravel()

    def draw(self, rng: np.random.Generator, hour: NDArray[np.int64], category: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
        """Draw one live item per entry, by popularity.

        Parameters
        ----------
        hour : ndarray of int64, shape (n,)
            Hour of the day.
        category : ndarray of int64, shape (n,), optional
            Draw from this category; -1, or a category in which nothing lives, means any item.

        Returns
        -------
        ndarray of int32, shape (n,)
        """
        low, high = np.zeros(len(hour)), np.ones(len(hour))
        if category is not None:
            row = np.flatnonzero(category >= 0)
            start, end = self._edges[hour[row], category[row]], self._edges[hour[row], category[row] + 1]
            full = end - start > 1e-9
            low[row[full]], high[row[full]] = start[full], end[full]
        point = np.minimum(low + rng.random(len(hour)) * (high - low), 1 - 1e-12)  # below 1 for good: rounding must not reach the next hour
        place = np.searchsorted(self._ladder, point + hour, side="right") - hour * len(self.items)
        return self.items[place].astype(np.int32)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the last axis to length one."""
    length: NDArray[np.float64] = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return vectors / length


def _power_law(n: int, exponent: float) -> NDArray[np.float64]:
    """Shares of n ranks, (n,)."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()
