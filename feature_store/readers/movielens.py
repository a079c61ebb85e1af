"""MovieLens ratings as clicks: a rating is an impression of one movie, clicked when the rating is high enough.

Three layouts: ml-1m (``ratings.dat``, ``movies.dat``, ``users.dat``), ml-100k (``u.data``, ``u.item``, ``u.user``), and files with
typed headers (``NAME.inter``, ``NAME.item``, ``NAME.user``). The files of items and users may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import SourceConfig
from feature_store.readers.base import data_files, data_folder, is_data_file, reader_fingerprint
from feature_store.readers.delimited import Layout, read_delimited, read_header
from feature_store.tables.casting import as_array, null_where, to_numbers, to_text
from feature_store.tables.contracts import DataFolderError, Kind, LogContract, RawBatch, log_contract

GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)  # flags of u.item, in their order
_TYPED = Layout("\t", quoted=False, typed_header=True)


class _RawFile(NamedTuple):
    kind: Kind
    layout: Layout
    columns: dict[str, str]  # name here -> name in the file


_RATINGS = ("user", "item", "rating", "timestamp")
_EVENTS = {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "timestamp"}
_USERS = {"user_id": "user", "age": "age", "gender": "gender", "occupation": "occupation"}


def _dats(*names: str) -> Layout:
    return Layout("::", quoted=False, names=names, encoding="latin-1")


def _pipes(*names: str) -> Layout:
    return Layout("|", quoted=False, names=names, encoding="latin-1")


_FIXED: dict[str, _RawFile] = {
    "ratings.dat": _RawFile("events", _dats(*_RATINGS), _EVENTS),
    "movies.dat": _RawFile("items", _dats("item", "title", "genres"), {"item_id": "item", "title": "title", "genres": "genres"}),
    "users.dat": _RawFile("users", _dats("user", "gender", "age", "occupation", "zip"), _USERS),
    "u.data": _RawFile("events", Layout("\t", quoted=False, names=_RATINGS), _EVENTS),
    "u.item": _RawFile(
        "items",
        _pipes("item", "title", "released", "video", "url", *GENRES),
        {"item_id": "item", "title": "title", "released": "released", **{name: name for name in GENRES}},
    ),
    "u.user": _RawFile("users", _pipes("user", "age", "gender", "occupation", "zip"), _USERS),
}
_LAYOUTS = (("ratings.dat", "movies.dat", "users.dat"), ("u.data", "u.item", "u.user"))


class MovieLensReader:
    """Reads the ratings, and the items and users where their files are there."""

    def __init__(self, config: SourceConfig, data: Path | None) -> None:
        self._data = data_folder(data, "movielens")
        self._click_rating = config.click_rating

    def files(self) -> list[Path]:
        for names in _LAYOUTS:
            if is_data_file(self._data / names[0]):
                return [self._data / name for name in names if is_data_file(self._data / name)]
        inters = data_files(self._data, "*.inter")
        if len(inters) != 1:
            found = "no ratings.dat, u.data or NAME.inter" if not inters else f"{len(inters)} .inter files, and which one is meant is open"
            raise DataFolderError(f"{self._data}: {found}; name the folder of one MovieLens log")
        stem = inters[0].with_suffix("")
        return [path for path in (inters[0], stem.with_suffix(".item"), stem.with_suffix(".user")) if is_data_file(path)]

    def fingerprint(self) -> str:
        return reader_fingerprint("movielens", click_rating=self._click_rating)

    def contract(self) -> LogContract:
        kinds = {_file(path).kind for path in self.files()}
        return log_contract(
            has_impressions=True,
            item_attributes=("release_year", "genre") if "items" in kinds else (),
            item_multi=("genre",) if "items" in kinds else (),
            user_attributes=("age", "gender", "occupation") if "users" in kinds else (),
        )

    def read(self, files: Sequence[Path]) -> Iterator[RawBatch]:
        shape: dict[str, Callable[[pa.Table], dict[str, Any]]] = {"events": self._events, "items": _item_columns, "users": _user_columns}
        for path in files:
            kind, layout, columns = _file(path)
            for batch in read_delimited(path, path.name, kind, columns, layout):
                yield batch._replace(table=pa.table(shape[kind](batch.table)))

    def _events(self, table: pa.Table) -> dict[str, Any]:
        ratings, bad = to_numbers(as_array(table["rating"]))
        clicked = null_where(pc.greater_equal(ratings, self._click_rating), bad)  # null: the contract rejects the row
        return {name: table[name] for name in ("user_id", "item_id", "timestamp", "rating")} | {"clicked": clicked}


def _file(path: Path) -> _RawFile:
    if path.name in _FIXED:
        return _FIXED[path.name]
    if path.suffix == ".inter":
        return _RawFile("events", _TYPED, {"user_id": "user_id", "item_id": "item_id", "rating": "rating", "timestamp": "timestamp"})
    if path.suffix == ".user":
        return _RawFile("users", _TYPED, {"user_id": "user_id", "age": "age", "gender": "gender", "occupation": "occupation"})
    names, _ = read_header(path, path.name, _TYPED)
    genres = "genre" if "genre" in names else "class"
    columns = {"item_id": "item_id", "title": "movie_title", "release_year": "release_year", "genres": genres}
    return _RawFile("items", _TYPED, columns)


def _as_text(table: pa.Table, name: str) -> pa.Array:
    return to_text(as_array(table[name]))[0]


def _item_columns(table: pa.Table) -> dict[str, Any]:
    """Release year and genres, from whichever columns the layout has."""
    columns: dict[str, Any] = {"item_id": table["item_id"], "title": table["title"]}
    if "release_year" in table.column_names:
        columns["release_year"] = table["release_year"]
    else:  # 01-Jan-1995, or Toy Story (1995)
        dated = _as_text(table, "released") if "released" in table.column_names else _as_text(table, "title")
        columns["release_year"] = pc.struct_field(pc.extract_regex(dated, r"(?P<year>\d{4})\)?\s*$"), "year")
    if "genres" in table.column_names:  # Animation|Children's, or Animation Children's
        columns["genre"] = pc.split_pattern_regex(_as_text(table, "genres"), r"[| ]+")
    else:
        flags = [pc.fill_null(pc.equal(_as_text(table, name), "1"), False).to_pylist() for name in GENRES]
        columns["genre"] = pa.array([[name for name, flag in zip(GENRES, row, strict=True) if flag] for row in zip(*flags, strict=True)])
    return columns


def _user_columns(table: pa.Table) -> dict[str, Any]:
    ages, bad = to_numbers(as_array(table["age"]))
    decades = pc.multiply(pc.floor(pc.divide(ages, 10.0)), 10.0)
    return {name: table[name] for name in ("user_id", "gender", "occupation")} | {"age": null_where(decades, bad)}
