"""The best rows of each user of a scored file, in the file's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.config import FeatureStoreConfig
from feature_store.engines.duckdb import scratch_engine

BATCH = 131_072  # rows


def keep_best(source: Path, target: Path, best: int, engine_config: FeatureStoreConfig) -> int:
    """Copy the rows of each user with the highest scores; of equal scores the first row wins.

    Parameters
    ----------
    source : Path
        Parquet with ``user_id`` and ``score``, of any size. Rows with a null user id count as those of one user.
    target : Path
        Parquet with the same columns.
    best : int
        Rows kept per user.
    engine_config : FeatureStoreConfig

    Returns
    -------
    int
        Rows kept.
    """
    with scratch_engine(engine_config) as engine:
        engine.load_ranking("ranking", source)
        place = engine.fetch("candidates/best_of_user.sql", by=["row"], best=best)["row"].to_numpy()
    begin = 0
    # The file is copied by itself: an engine would give some types back as others.
    with pq.ParquetFile(source, pre_buffer=False) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        for batch in file.iter_batches(BATCH):
            first, last = np.searchsorted(place, (begin, begin + batch.num_rows))
            if last > first:
                writer.write_table(pa.Table.from_batches([batch.take(pa.array(place[first:last] - begin))]))
            begin += batch.num_rows
    return len(place)
