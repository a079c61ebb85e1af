"""ASOF joins in plain SQL: rewritten wherever they stand, and with the rows that DuckDB gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store.config import FeatureStoreConfig
from feature_store.engines import Engine, open_engine
from feature_store.engines.asof_rewrite import without_asof
from tests.sparks import local_spark

SQL = Path(__file__).parents[3] / "feature_store" / "sql"
BOTH = "b.x = q.x and b.y = q.y and "
QUERIES = {
    "of a key": "select q.n, b.v, b.moment from asked q asof left join answers b on b.x = q.x and b.moment < q.timestamp",
    "inner, of two keys": f"select q.n, b.v, b.moment from asked q asof join answers b on {BOTH}b.moment < q.timestamp",
    "without a key": "select q.n, c.v, c.moment from asked q asof left join (select max(v) as v, moment from answers group by moment) c "
    "on c.moment < q.timestamp",
    "one after another": "select q.n, b.v, c.v as w from asked q left join names on names.x = q.x asof left join answers b "
    "on b.x = q.x and b.moment < q.timestamp asof left join answers c on c.y = q.y and c.x = q.x and c.moment < q.timestamp",
    "of what one gave": f"select p.n, c.v, p.v as w from (select q.*, b.v from (select * from asked where x > 0) q "
    f"asof join answers b on {BOTH}b.moment < q.timestamp) p asof left join answers c on c.x = p.x and c.moment < p.timestamp",
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """Both engines with the same tables: keys that are null, unknown or popular, and moments that are asked for at their very time."""
    rng = np.random.default_rng(3)
    x, y, timestamp = rng.integers(0, 5, 400), rng.integers(0, 2, 400), rng.integers(0, 60, 400)
    asked = pa.table({"n": np.arange(400), "x": pa.array(x, mask=x == 4), "y": y, "timestamp": timestamp})
    moments = np.unique(np.stack([rng.integers(0, 4, 150), np.zeros(150, int), rng.integers(0, 60, 150)]), axis=1)  # one row of a moment
    answers = pa.table({"x": moments[0], "y": moments[1], "moment": moments[2], "v": np.arange(moments.shape[1])})
    folder = tmp_path_factory.mktemp("engines")
    with ExitStack() as stack:
        settings = stack.enter_context(local_spark(folder / "spark"))
        configs = {"embedded": FeatureStoreConfig(threads=1), "spark": FeatureStoreConfig(engine="spark", spark=settings)}
        found = {name: stack.enter_context(open_engine(config, folder / name)) for name, config in configs.items()}
        for engine in found.values():
            engine.upload("asked", asked)
            engine.upload("answers", answers)
            engine.upload("names", pa.table({"x": [0, 1, 2]}))
        yield found


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_the_rows_are_those_of_duckdb(engines: dict[str, Engine], query: str) -> None:
    rows = {name: engine.fetch(query, by=["n"]) for name, engine in engines.items()}
    assert rows["spark"].num_rows > 100
    assert rows["spark"].to_pydict() == rows["embedded"].to_pydict()


@pytest.mark.parametrize("file", sorted(path.relative_to(SQL).as_posix() for path in SQL.rglob("*.sql") if "\nasof" in path.read_text()))
def test_every_query_of_ours_can_be_rewritten(file: str) -> None:
    text = re.sub(r"\$\{(\w+)\}", r"\1", (SQL / file).read_text())
    assert "asof " in text and "asof " not in without_asof(text)


def test_a_join_that_cannot_be_rewritten_is_a_mistake_of_the_query() -> None:
    with pytest.raises(ValueError, match=r"cannot be rewritten: asof join c b on b\.moment <= a\.timestamp"):
        without_asof("select * from a asof join c b on b.moment <= a.timestamp")
    with pytest.raises(ValueError, match="no relation is named q before"):
        without_asof("select * from a asof join c b on b.moment < q.timestamp")
