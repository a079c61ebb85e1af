"""The log of a small shop, made by seed: what somebody has who starts, with the true click probabilities kept aside.

    python benchmarks/shop_log.py FOLDER [--seed 0]

2,000 users come for four weeks and see ten products at a time out of 800, half of which are new each week: a product is on the shelf for
two weeks. What makes a click:

- a **taste** for categories and brands, and a price level at which a user buys; products differ in quality;
- an **errand**: a user is after one category for some visits, then mostly after what goes with it (a case after a phone). No column says
  so, but clicks do, and the newest ones most;
- the **last click**: within the hour more of the same category is looked at, and more of what goes with it; a product hardly twice.

About 5 to 8 % of what is shown is clicked. The log keeps every click and of the rest a fifth, as shops do, which leaves 91,000 rows.

Writes events.parquet (user_id, item_id, timestamp, clicked, request_id, device), items.parquet (item_id, category, brand, price) and, for
whoever wants to know the best reachable AUC, truth/probabilities.parquet (request_id, item_id, click_probability), which no reader opens.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

USERS, SHELF, CATEGORIES, BRANDS = 2000, 800, 12, 40
DAYS, LIFE = 28, 14  # of the log; of a product on the shelf
REQUESTS, CANDIDATES = 35_300, 10
KEPT = 0.2  # share of the rows without a click that the log keeps
START = np.datetime64("2025-03-03", "us")
DAY, HOUR = 86_400.0, 3_600.0  # seconds
DEVICES, DEVICE_SHARES = ("mobile", "desktop", "tablet"), (0.6, 0.32, 0.08)

ACTIVITY_STD = 0.9  # of log activity
REQUESTS_PER_VISIT, GAP_SECONDS = 4.0, 60.0
# Log-odds of a click: standard deviations, or what is added.
INTERCEPT = -3.9
CATEGORY_STD, BRAND_STD, QUALITY_STD, PRICE_STD = 0.7, 0.4, 0.5, 0.35
ERRAND, SAME, PAIRED, REPEATED = 1.3, 0.7, 1.0, -2.0
FADE = 1.0  # hours until a third is left of what the last click adds
NEW_ERRAND, ERRAND_FOLLOWS = 0.35, 0.7  # per visit; share of the new errands that go with the one before
# What is shown: the rest is drawn by popularity.
SHOWN_AS_LAST, SHOWN_BY_TASTE = 0.25, 0.25


@dataclass(frozen=True)
class ShopLog:
    """Everything that was shown, or the part of it that a log keeps; rows in the order of time.

    Attributes
    ----------
    events : pa.Table
        user_id, item_id, timestamp, clicked, request_id, device.
    items : pa.Table
        item_id, category, brand, price, of all products that were on the shelf one day.
    born : ndarray of float64, shape (items,)
        Days from the log's start to the first day on the shelf, below zero for what was there before.
    probability : ndarray of float64, shape (rows,)
        What ``clicked`` was drawn from.
    """

    events: pa.Table
    items: pa.Table
    born: NDArray[np.float64]
    probability: NDArray[np.float64]

    def write(self, folder: Path) -> None:
        """Write the log, and the truth beside it, into a folder."""
        (folder / "truth").mkdir(parents=True, exist_ok=True)
        pq.write_table(self.events, folder / "events.parquet")
        pq.write_table(self.items, folder / "items.parquet")
        truth = self.events.select(["request_id", "item_id"]).append_column("click_probability", pa.array(self.probability))
        pq.write_table(truth, folder / "truth" / "probabilities.parquet")


class _Shelf:
    """The products: 800 places, each of which gets another one every two weeks; half of them in the first, half in the second."""

    def __init__(self, rng: np.random.Generator) -> None:
        turns = -(-DAYS // LIFE) + 1  # products of a place that one day of the log shows
        phase = (np.arange(SHELF) % 2 + rng.random(SHELF)) * (LIFE / 2)
        born = (phase[:, None] + LIFE * np.arange(-1, turns - 1)).ravel()  # (places * turns,)
        self.born = np.sort(born)  # ids grow with birth, as in any catalogue
        n = len(self.born)
        self.category = rng.choice(CATEGORIES, n, p=_falling(CATEGORIES, 0.5))
        maker = rng.permuted(np.tile(np.arange(BRANDS), (CATEGORIES, 1)), axis=1)[:, :8]  # a category has eight brands
        self.brand = maker[self.category, rng.choice(8, n, p=_falling(8, 0.7))]
        self.price = np.exp(rng.normal(3.4, 0.6, CATEGORIES)[self.category] + 0.4 * rng.standard_normal(n))
        self.level = np.zeros(n)  # of the price among those of its category, in standard deviations
        for category in range(CATEGORIES):
            own = np.log(self.price[self.category == category])
            self.level[self.category == category] = (own - own.mean()) / own.std()
        self.quality = QUALITY_STD * rng.standard_normal(n)
        self.popularity = np.exp(self.quality + 0.6 * rng.standard_normal(n))

    def table(self) -> pa.Table:
        return pa.table(
            {
                "item_id": [f"p{number:04d}" for number in range(len(self.born))],
                "category": [f"c{number:02d}" for number in self.category],
                "brand": [f"b{number:02d}" for number in self.brand],
                "price": np.round(self.price, 2),
            }
        )

    def live(self, day: float) -> NDArray[np.int64]:
        """Products on the shelf at a time, always 800 of them."""
        end = int(np.searchsorted(self.born, day, side="right"))
        return np.arange(np.searchsorted(self.born, day - LIFE, side="right"), end)


def shown(seed: int = 0) -> ShopLog:
    """All impressions, before the log is thinned.

    Parameters
    ----------
    seed : int

    Returns
    -------
    ShopLog
    """
    rng = np.random.default_rng(seed)
    shelf = _Shelf(rng)
    goes_with = (np.arange(CATEGORIES) + 1 + rng.integers(0, CATEGORIES - 1, CATEGORIES)) % CATEGORIES  # never the category itself
    # Shared between users along four directions, so that the clicks of one tell of another.
    taste = CATEGORY_STD * _alike(rng, CATEGORIES)
    liked_brand = BRAND_STD * _alike(rng, BRANDS)
    price_level, usual_device = rng.standard_normal(USERS), rng.choice(len(DEVICES), USERS, p=DEVICE_SHARES)
    activity = np.exp(ACTIVITY_STD * rng.standard_normal(USERS))
    visits = 1 + rng.multinomial(round(REQUESTS / REQUESTS_PER_VISIT) - USERS, activity / activity.sum())
    users, times, devices, items, chances, clicks = [], [], [], [], [], []
    for user in range(USERS):
        likes = np.exp(taste[user])
        errand, last, last_at, seen = int(rng.choice(CATEGORIES, p=likes / likes.sum())), -1, -np.inf, set[int]()
        for start in np.sort(_visit_times(rng, int(visits[user]))):
            if rng.random() < NEW_ERRAND:
                follows = rng.random() < ERRAND_FOLLOWS
                errand = int(goes_with[errand]) if follows else int(rng.choice(CATEGORIES, p=likes / likes.sum()))
            device = usual_device[user] if rng.random() < 0.85 else rng.choice(len(DEVICES), p=DEVICE_SHARES)
            now = start
            for _ in range(rng.geometric(1 / REQUESTS_PER_VISIT)):
                candidates = _candidates(rng, shelf, shelf.live(now / DAY), likes, last)
                category = shelf.category[candidates]
                logit = INTERCEPT + taste[user, category] + liked_brand[user, shelf.brand[candidates]] + shelf.quality[candidates]
                logit += PRICE_STD * (1 - np.abs(shelf.level[candidates] - price_level[user])) + ERRAND * (category == errand)
                if last >= 0:
                    fade = np.exp(-(now - last_at) / (FADE * HOUR))
                    logit += fade * (SAME * (category == last) + PAIRED * (category == goes_with[last]))
                logit += REPEATED * np.array([product in seen for product in candidates.tolist()])
                chance = 1 / (1 + np.exp(-logit))
                click = rng.random(CANDIDATES) < chance
                for row, value in ((users, user), (times, now), (devices, device), (items, candidates), (chances, chance), (clicks, click)):
                    row.append(value)
                if click.any():
                    chosen = candidates[click]
                    last, last_at = int(shelf.category[chosen[-1]]), now
                    seen.update(chosen.tolist())
                now += GAP_SECONDS * np.exp(0.7 * rng.standard_normal())
    order = np.argsort(times, kind="stable")
    request = np.repeat(np.arange(len(order)), CANDIDATES)
    catalogue = shelf.table()
    at = START + (np.array(times)[order] * 1e6).astype("timedelta64[us]")
    events = pa.table(
        {
            "user_id": pa.array([f"u{user:04d}" for user in range(USERS)]).take(pa.array(np.repeat(np.array(users)[order], CANDIDATES))),
            "item_id": catalogue["item_id"].take(pa.array(np.array(items)[order].ravel())),
            "timestamp": pa.array(np.repeat(at, CANDIDATES)).cast(pa.timestamp("us", "UTC")),
            "clicked": pa.array(np.array(clicks)[order].ravel().astype(np.int8)),
            "request_id": pa.array(request),
            "device": pa.array(DEVICES).take(pa.array(np.repeat(np.array(devices)[order], CANDIDATES))),
        }
    )
    return ShopLog(events, catalogue, shelf.born, np.array(chances)[order].ravel())


def kept(log: ShopLog, seed: int = 0) -> ShopLog:
    """What the log of the shop holds: every click, and of the other rows a fifth.

    Parameters
    ----------
    log : ShopLog
        As it was shown.
    seed : int

    Returns
    -------
    ShopLog
    """
    clicked = log.events["clicked"].to_numpy() == 1
    keep = clicked | (np.random.default_rng([seed, 1]).random(len(clicked)) < KEPT)
    return ShopLog(log.events.filter(pa.array(keep)), log.items, log.born, log.probability[keep])


def write_shop_log(folder: Path, seed: int = 0) -> ShopLog:
    """Make the thinned log, write it into a folder, and return it."""
    log = kept(shown(seed), seed)
    log.write(folder)
    return log


def _candidates(
    rng: np.random.Generator, shelf: _Shelf, live: NDArray[np.int64], likes: NDArray[np.float64], last: int
) -> NDArray[np.int64]:
    """Ten different products in random order: some of the last category, some by taste, the rest by popularity."""
    category, popular = shelf.category[live], shelf.popularity[live]
    liked = popular * likes[category]
    weight = (1 - SHOWN_AS_LAST - SHOWN_BY_TASTE) * popular / popular.sum() + SHOWN_BY_TASTE * liked / liked.sum()
    alike = popular * (category == last)
    weight += SHOWN_AS_LAST * (alike / alike.sum() if alike.any() else popular / popular.sum())
    # The first of bells that ring at these rates are a draw without replacement.
    drawn: NDArray[np.int64] = live[np.argpartition(rng.standard_exponential(len(live)) / weight, CANDIDATES)[:CANDIDATES]]
    return rng.permutation(drawn)


def _visit_times(rng: np.random.Generator, visits: int) -> NDArray[np.float64]:
    """Seconds from the log's start, more of them in the evening than at night."""
    clock = np.arange(24)
    by_hour = 1.1 + np.cos((clock - 20) * np.pi / 12)
    hour = rng.choice(24, visits, p=by_hour / by_hour.sum()) + rng.random(visits)
    return DAY * rng.integers(0, DAYS, visits) + HOUR * np.minimum(hour, 23)  # a visit ends before the last midnight


def _alike(rng: np.random.Generator, columns: int, directions: int = 4) -> NDArray[np.float64]:
    """A number per user and column, of standard deviation one, most of it along a few directions."""
    shared = rng.standard_normal((USERS, directions)) @ rng.standard_normal((directions, columns)) / np.sqrt(directions)
    result: NDArray[np.float64] = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.standard_normal((USERS, columns))
    return result


def _falling(n: int, exponent: float) -> NDArray[np.float64]:
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    log = write_shop_log(arguments.folder, arguments.seed)
    print(f"{arguments.folder}: {len(log.events):,} rows, {np.mean(log.events['clicked'].to_numpy()):.1%} of them clicked")


if __name__ == "__main__":
    main()
