"""Vectors of titles, each made once: kept in the workspace by the digest of the encoder that made them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.config import TitleEncoder
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of, sync
from feature_store.tables.json_files import digest_of
from feature_store.tables.named_files import named_path
from feature_store.tables.parquet_files import read_parquet
from feature_store.tables.vectors import STORED
from pipelines.workspace.progress import Progress

FOLDER = "title_vectors"  # in a workspace
_AT_A_TIME = 20_000  # titles that are encoded before they are written down


class TitleVectors:
    """What makes vectors of titles, and remembers them.

    Parameters
    ----------
    settings : TitleEncoder
    data : Path
        The data folder, below which the encoder lies.
    workspace : Path
    report : callable
        Takes lines of progress.

    Attributes
    ----------
    digest : str
        Of the encoder's files and of the settings.
    """

    def __init__(self, settings: TitleEncoder, data: Path, workspace: Path, report: Callable[[str], object]) -> None:
        self._settings, self._encoder, self._report = settings, named_path(settings.encoder, data), report
        files = {file.name: sha256_of(file) for file in encoder_files(settings, data)}
        self.digest = digest_of([files, settings.max_length])
        self._folder = workspace / FOLDER / self.digest[:16]

    def of(self, titles: pa.Array) -> pa.Array:
        """Lists of numbers (titles,), null of null; those that were never met are encoded, and remembered."""
        known = self._remembered()
        new = pc.unique(titles).drop_null()
        new = new.filter(pc.invert(pc.is_in(new, value_set=known["title"].combine_chunks())))
        for begin in range(0, len(new), _AT_A_TIME):
            made = self._encode(new.slice(begin, _AT_A_TIME))
            known = pa.concat_tables([known, made])
        place = pc.index_in(titles, value_set=known["title"].combine_chunks(), skip_nulls=True)
        return known["vector"].combine_chunks().take(place)

    def _remembered(self) -> pa.Table:
        empty = pa.table({"title": pa.array([], pa.string()), "vector": pa.array([], STORED)})
        return pa.concat_tables([empty, *(read_parquet(file).cast(empty.schema) for file in sorted(self._folder.glob("*.parquet")))])

    def _encode(self, titles: pa.Array) -> pa.Table:
        from ctr_kd.huggingface.encode import TextEncoder  # late: where all titles are known, torch is not needed
        from ctr_kd.huggingface.folder import InterchangeError

        began = time.monotonic()
        progress = Progress(self._report, len(titles), "titles encoded")
        try:
            vectors = TextEncoder(self._encoder, self._settings.max_length).encode(titles.to_pylist(), progress)
        except InterchangeError as error:
            raise DataError(f"the encoder of titles: {error}") from None
        seconds = time.monotonic() - began
        self._report(f"{len(titles):,} titles encoded by {self._settings.encoder}, {len(titles) / max(seconds, 1e-9):,.0f} a second")
        offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
        made = pa.table({"title": titles, "vector": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())).cast(STORED)})
        self._remember(made)
        return made

    def _remember(self, made: pa.Table) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = digest_of(made["title"].to_pylist())[:16]
        temporary = self._folder / f".{name}.tmp"
        try:
            pq.write_table(made, temporary)
            sync(temporary)
            temporary.replace(self._folder / f"{name}.parquet")
        finally:
            temporary.unlink(missing_ok=True)


def encoder_files(settings: TitleEncoder, data: Path | None) -> list[Path]:
    """Files of the encoder that are there.

    Raises
    ------
    DataError
        When its folder holds no BERT.
    """
    from ctr_kd.huggingface.folder import InterchangeError, folder_files

    folder = named_path(settings.encoder, data)
    try:
        names = folder_files(folder)
    except InterchangeError as error:
        raise DataError(f"the encoder of titles: {error}; `encoder` names a folder below the data folder") from None
    return [folder / name for name in (*names, "tokenizer_config.json") if (folder / name).is_file()]
