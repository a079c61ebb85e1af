"""Two dozen logs whose configuration is `source` and `split` and nothing else, on which the defaults are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import click_worlds
from benchmarks.shop_log import write_shop_log
from feature_store.config import SimulatorConfig


@dataclass(frozen=True)
class Log:
    """A log with its configuration.

    Attributes
    ----------
    name : str
    source, split : mapping
        All of the configuration; texts name their parts in ``source``, so that their split is empty.
    folder : str, optional
        Below the folder of data; None where the log is made.
    make : callable, optional
        Writes the log into a folder; None where files are read, or none are needed.
    store : str, optional
        Of logs that read the same source: they share a workspace, so that it is ingested once.
    seeds : int
        How often it is run, each time by another seed: where few rows are tested, one seed moves more than what is measured.
    """

    name: str
    source: Mapping[str, Any]
    split: Mapping[str, Any]
    folder: str | None = None
    make: Callable[[Path], Any] | None = None
    store: str | None = None
    seeds: int = 1

    @property
    def configuration(self) -> dict[str, Any]:
        return {"source": dict(self.source)} | ({"split": dict(self.split)} if self.split else {})

    @property
    def of_texts(self) -> bool:
        return self.source["reader"] == "text"

    @property
    def instead(self) -> str:
        """The model that somebody would use instead, as metrics.json calls it."""
        return "linear" if self.of_texts else "boosted_trees"


LAST_TENTHS = {"fractions": [0.8, 0.1, 0.1]}
SHOP = {
    "reader": "tabular",
    "events": click_worlds.EVENTS,
    "items": {"path": "items.parquet", "item": "item_id", "categorical": ["category", "brand"], "dense": ["price"]},
    "context": {"categorical": ["device"]},
    "negative_sampling_rate": 0.2,
}


def _until(*times: str, train_from: str | None = None) -> dict[str, Any]:
    split = dict(zip(("train_until", "validate_until", "test_until"), times, strict=True))
    return split if train_from is None else {"train_from": train_from, **split}


def _movies() -> Iterator[Log]:
    """Three cut-offs, at which 50, 70 and 80 % of the ratings are known; a click is a rating of 4 or 5, or of 5 alone."""
    cuts = {
        "winter": _until("1997-12-23", "1998-01-13", "1998-02-09"),
        "february": _until("1998-02-09", "1998-03-07", "1998-03-31"),
        "march": _until("1998-03-07", "1998-03-31", "1998-04-23"),
    }
    for rating in (4, 5):
        for cut, split in cuts.items():
            source = {"reader": "movielens", "click_rating": rating}
            yield Log(f"movielens {rating} stars, {cut}", source, split, "ml-100k", store=f"movielens {rating}")


def _afternoons() -> Iterator[Log]:
    """A Thursday, a Monday and a Wednesday: twelve hours to learn from, tested in the evening."""
    for day in ("05", "09", "11"):
        split = _until(*(f"2017-10-{day}T{hour}:00" for hour in (14, 16, 20)), train_from="12h")
        yield Log(f"globo, {day} October", {"reader": "globo"}, split, "globo", store="globo")


def _worlds() -> Iterator[Log]:
    """Simulated logs of about a hundred thousand rows; see :mod:`benchmarks.click_worlds` for those that are written as files."""
    settings = {
        "few users": {"users": 300, "items": 800, "requests": 12_000},
        "many users": {"users": 20_000, "items": 2000, "requests": 18_000},
        "short item life": {"item_life": "1d", "items": 4000, "requests": 18_000},
        "long item life, clicks only": {"item_life": "60d", "clicks_only": True, "requests": 24_000},
    }
    for name, simulator in settings.items():
        yield Log(f"world: {name}", {"reader": "simulated", "simulator": simulator}, LAST_TENTHS)
    changes: dict[click_worlds.Change, tuple[str, SimulatorConfig]] = {
        "rare_clicks": ("rare clicks", SimulatorConfig(requests=24_000)),
        "many_attributes": ("many attributes", SimulatorConfig(requests=16_000)),
        "no_order": ("no order", SimulatorConfig(requests=18_000)),
    }
    for change, (name, config) in changes.items():
        write = partial(click_worlds.write_world, change=change, config=config)
        yield Log(f"world: {name}", click_worlds.source(change), LAST_TENTHS, make=write)


def _texts() -> Iterator[Log]:
    columns = {"text": 0, "label": 1}
    files = {
        "tnews": ("text/tnews", {"train": "train.tsv", "test": "dev.tsv", **columns}),
        "tnews5": (
            "text/seed_tnews5",
            {"train": "train.json", "test": "test.json", "text": "text", "label": "label", "class_names": "class_multi1.txt"},
        ),
        "afqmc": ("text/afqmc", {"train": "train.txt", "test": "dev.txt", "text": 0, "text_b": 1, "label": 2}),
        "trec": ("text/en/trec", {"train": "train.tsv", "test": "test.tsv", **columns}),
        "cr": ("text/en/cr", {"train": "train.tsv", "test": "test.tsv", **columns}),
    }
    for name, (folder, source) in files.items():
        yield Log(name, {"reader": "text", **source}, {}, folder, seeds=3 if folder.startswith("text/en") else 1)


LOGS = (
    Log("shop", SHOP, LAST_TENTHS, make=write_shop_log),
    *_worlds(),
    *_movies(),
    Log("mind", {"reader": "mind"}, _until("2019-11-12T12:00", "2019-11-13", "2019-11-14"), "mind_sample"),
    # A position is a day. Beauty's last day holds a tenth of the clicks; LastFM's last tenths are several days.
    Log("s3rec Beauty", {"reader": "s3rec", "name": "Beauty"}, {"leave_one_out": True}, "s3rec"),
    Log("s3rec LastFM", {"reader": "s3rec", "name": "LastFM"}, LAST_TENTHS, "s3rec"),
    *_texts(),
    *_afternoons(),
)


def chosen(names: Sequence[str]) -> list[Log]:
    """Logs by name, or by how their names begin; all of them where none is named.

    Raises
    ------
    SystemExit
        When a name is of no log.

    Examples
    --------
    >>> [log.name for log in chosen(["shop", "s3rec"])]
    ['shop', 's3rec Beauty', 's3rec LastFM']
    """
    strange = next((name for name in names if not any(log.name.startswith(name) for log in LOGS)), None)
    if strange is not None:
        raise SystemExit(f"--logs: no log is called {strange!r}; there are {', '.join(log.name for log in LOGS)}")
    return [log for log in LOGS if not names or log.name in names or log.name.startswith(tuple(names))]
