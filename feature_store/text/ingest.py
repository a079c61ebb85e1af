"""Ingestion of labelled texts: every file into the partition of its split, all of them or none.

    texts/split=train|validation|test|unlabelled/texts.parquet   row_id, text, text_b, label, split, source, line
    resources/                                                   files that tokenizers need, such as a vocab.txt

A text has no time, so a split is a file, or a share of the training file. The classes are those of the training file and are in
``_contract.json``. What results is a function of the inputs alone; running it twice changes nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.config import SourceConfig
from feature_store.readers.base import is_data_file, relative
from feature_store.readers.text import SPLITS, TextReader
from feature_store.store.ingest import IngestSummary
from feature_store.store.manifests import (
    CONTRACT,
    LEDGER,
    MANIFEST,
    FolderManifest,
    InputFile,
    Ledger,
    StoredTextContract,
    TextContract,
    TextManifest,
    write_sealed,
)
from feature_store.store.merge import sort_engine, write_rows
from feature_store.store.quarantine import Rejects, write_failed, write_quarantine
from feature_store.store.store import Store, Transaction, finish_commit, storage_errors
from feature_store.tables.casting import canonical_integers, to_categories, to_text
from feature_store.tables.contracts import DataError, DataFolderError, RawBatch, Rejected, row_text
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import spaced_digest_of
from feature_store.tables.named_files import PACKAGE, named_path
from feature_store.text.audit import text_keys

FORMAT = 1  # of a store of texts; another number makes it be built anew
TEXTS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("text", pa.string()),
        ("text_b", pa.string()),  # null where there is one text
        ("label", pa.string()),  # name of the class; null where there is none
        ("split", pa.string()),
        ("source", pa.string()),
        ("line", pa.int64()),
    ]
)
_DRAWS = 1 << 32


def ingest_texts(
    source: SourceConfig,
    data: Path | None,
    store: Store,
    failed: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    resources: Iterable[str] = (),
) -> IngestSummary:
    """Bring the store up to date with the files of texts.

    Parameters
    ----------
    source : SourceConfig
        Settings of reader ``text``.
    data : Path or None
        The data folder.
    store : Store
        Is created when absent, and replaced when anything changed.
    failed : Path
        Folder for the rejected rows of an ingestion that fails for them.
    report : callable
        Takes one line at a time of what is going on.
    resources : iterable of str
        Files below ``data`` that tokenizers need, copied into the store.

    Raises
    ------
    DataError
        When inputs are missing or damaged, a split has no row, training has fewer than two classes, or more rows than
        ``source.bad_rows_limit`` are rejected. The store is as it was.
    StorageError
        When the disk is full or refuses. The store is as it was.
    """
    started = time.monotonic()
    with storage_errors(store.root):
        finish_commit(store.root)
        reader = TextReader(source, data)
        files = {relative(path, Path(data or "")): path for path in reader.files()}
        needed = resource_files(data, resources)
        digests = {name: sha256_of(path) for name, path in sorted({**files, **needed}.items())}
    identity = spaced_digest_of([FORMAT, reader.fingerprint(), sorted(needed)])
    ledger = Ledger(source=identity, files={name: InputFile(sha256=digest) for name, digest in digests.items()})
    with storage_errors(store.root), Transaction(store) as transaction:
        if store.ledger == ledger:
            report(f"nothing new: {len(digests)} inputs are as they were")
            return IngestSummary(partitions_unchanged=len(_stored(store.root, "texts/*")), seconds=time.monotonic() - started)
        rejects = Rejects(transaction.staging / "rejected")
        with closing(sort_engine(transaction.staging / "engine")) as engine:
            try:
                rows, classes, read = _read(reader, source, rejects)
            except _RefusedError as refusal:
                write_failed(engine, rejects, Path(failed))
                raise DataError(f"{refusal}; commonest: {rejects.commonest()}; the rejected rows are in {failed}") from None
            written = _write(transaction, rows, digests)
            _copy_resources(transaction, needed)
            if rejects.rows:
                write_quarantine(engine, rejects, transaction.new("quarantine"), None, set())
        transaction.write(CONTRACT, StoredTextContract(texts=TextContract(pair=reader.has_pairs, classes=classes)))
        transaction.write(LEDGER, ledger)
        kept = (
            {f"texts/split={split}" for split in written}
            | ({"resources"} if needed else set())
            | ({"quarantine"} if rejects.rows else set())
        )
        transaction.remove(sorted(set(_stored(store.root, "*", "texts/*", "events/*")) - kept))
        transaction.commit()
        shutil.rmtree(failed, ignore_errors=True)
    report(f"{rows.num_rows:,} texts stored, {rejects.rows:,} in quarantine, {len(classes)} classes")
    return IngestSummary(
        files=len(digests),
        rows_read=read,
        rows_stored=rows.num_rows,
        rows_quarantined=rejects.rows,
        reasons=dict(sorted(rejects.reasons.items())),
        partitions_written=written,
        seconds=time.monotonic() - started,
    )


def resource_files(data: Path | None, names: Iterable[str]) -> dict[str, Path]:
    """Files that tokenizers need, by the name of the configuration. Raises DataError when one does not exist."""
    found = {}
    for name in sorted(set(names)):
        path = named_path(name, data)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or path.name == MANIFEST:
            raise DataFolderError(f"tokens: {name!r} is no file below the data folder; write its path relative to it")
        if not is_data_file(path):
            elsewhere = "" if name.startswith(PACKAGE) else " or the data folder"
            raise DataFolderError(f"{path} does not exist; correct `tokens`{elsewhere}")
        found[name] = path
    return found


def is_held_out(keys: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Whether each row belongs to the validation share, bool (rows,): a function of its text and the seed alone.

    Equal keys stay together, and no row moves when others come or go.

    Examples
    --------
    >>> is_held_out(["a", "b", "a"], 0.5, 1).tolist()
    [False, True, False]
    """
    draws = (hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=4).digest() for key in keys)
    return np.array([int.from_bytes(draw, "big") < share * _DRAWS for draw in draws], dtype=bool)


class _RefusedError(Exception):
    """Too many rows are rejected."""


def _read(reader: TextReader, source: SourceConfig, rejects: Rejects) -> tuple[pa.Table, list[str], int]:
    """All good rows in the order of their ids, the classes, and how many rows were read."""
    names = reader.class_names()
    order = {file: place for place, file in enumerate(reader.splits)}
    batches = sorted(reader.read(reader.files()), key=lambda batch: order[batch.file])  # stable: the batches of a file stay in order
    read = sum(len(batch.lines) + len(batch.rejected) for batch in batches)
    checked = [(batch, *_check(batch, names)) for batch in batches]
    classes = names or _classes(label for batch, rows, _ in checked if reader.splits[batch.file] == "train" for label in rows["label"])
    tables, good = [], Counter[str]()
    for batch, rows, rejected in checked:
        split = reader.splits[batch.file]
        rejects.add(batch.file, rejected)
        count = len(rows["text"])
        columns = {**rows, "row_id": [0] * count, "split": [split] * count, "source": [batch.file] * count}
        table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in TEXTS})
        if split != "unlabelled":
            known = pc.is_in(table["label"], pa.array(classes, pa.string()))
            strangers = table.filter(pc.invert(known)).select(["line", "text", "text_b", "label"]).to_pylist()
            rejects.add(batch.file, [Rejected(row.pop("line"), "label is no known class", row_text(row)) for row in strangers])
            table = table.filter(known)
        good[batch.file] += table.num_rows
        tables.append(table)
    if rejects.rows > source.bad_rows_limit * read:
        share = f"{rejects.rows:,} of {read:,} rows ({rejects.rows / read:.2%})"
        raise _RefusedError(f"{share} break the contract and source.bad_rows_limit allows {source.bad_rows_limit:.2%}")
    for file in reader.splits:
        if good[file] == 0:
            raise DataError(f"{file}: holds no row that can be used; fill it, or correct the columns that `source` names")
    rows = pa.concat_tables(tables)
    rows = rows.set_column(0, "row_id", pa.array(np.arange(rows.num_rows)))
    found = sorted(set(rows.filter(pa.array(np.asarray(rows["split"]) == "train"))["label"].to_pylist()))
    if len(found) < 2:
        raise DataError(
            f"{source.train}: all rows have the label {found[0]!r}; a classifier needs two classes: correct source.label or the file"
        )
    return rows if source.validation else _hold_out(rows, source), classes, read


def _check(batch: RawBatch, names: list[str] | None) -> tuple[dict[str, list[Any]], list[Rejected]]:
    """Rows of a batch as lists by column, and the rows that break the contract."""
    raw = {name: batch.table[name].combine_chunks() for name in batch.table.column_names}
    typed = {name: (to_categories if name == "label" else to_text)(column) for name, column in raw.items()}
    values = {name: texts.to_pylist() for name, (texts, _) in typed.items()}
    kept, rejected = [], list(batch.rejected)
    for place, line in enumerate(batch.lines.tolist()):
        faults = (_fault(name, values[name][place], bool(typed[name][1][place])) for name in raw)
        reason = next((fault for fault in faults if fault is not None), None)
        if reason is None:
            kept.append(place)
        else:
            rejected.append(Rejected(line, reason, row_text({name: column[place].as_py() for name, column in raw.items()})))
    if names is not None and "label" in values:
        values["label"] = [_class_name(label, names) for label in values["label"]]
    rows = {name: [values[name][place] if name in values else None for place in kept] for name in ("text", "text_b", "label")}
    return {**rows, "line": batch.lines[kept].tolist()}, rejected


def _fault(name: str, value: str | None, is_broken: bool) -> str | None:
    if is_broken:
        return f"{name} is not UTF-8"
    if value is None or not value.strip():
        return f"{name} is empty"
    return f"{name} holds a NUL character" if "\0" in value else None


def _class_name(label: str | None, names: list[str]) -> str | None:
    """The name of a class that is given by name or by its number from 0."""
    if label is None or label in names:
        return label
    return names[int(label)] if label.isascii() and label.isdigit() and int(label) < len(names) else label


def _classes(labels: Iterable[str]) -> list[str]:
    """Distinct labels in ascending order: of their numbers where all are integers, else of their text."""
    found = sorted(set(labels))
    return sorted(found, key=int) if canonical_integers(pa.array(found, pa.string())) is not None else found


def _hold_out(rows: pa.Table, source: SourceConfig) -> pa.Table:
    split = np.asarray(rows["split"], dtype=object)
    train = np.flatnonzero(split == "train")
    held = is_held_out(text_keys(rows.take(pa.array(train))), source.validation_share, source.seed)
    if held.all() or not held.any():
        shares = f"{len(held) - held.sum():,} of its {len(held):,} rows to train on and {held.sum():,} to validate on"
        raise DataError(
            f"{source.train}: source.validation_share {source.validation_share:g} leaves {shares}; change it, or name a source.validation"
        )
    split[train[held]] = "validation"
    return rows.set_column(rows.schema.get_field_index("split"), "split", pa.array(split, pa.string()))


def _write(transaction: Transaction, rows: pa.Table, digests: Mapping[str, str]) -> list[str]:
    written: list[str] = []
    for split in SPLITS:
        part = rows.filter(pa.array(np.asarray(rows["split"]) == split))
        if part.num_rows == 0:
            continue
        folder = transaction.new(f"texts/split={split}")
        file = folder / "texts.parquet"
        write_rows(file, TEXTS, [part])
        inputs = {name: digests[name] for name in sorted(set(part["source"].to_pylist()))}
        columns = hashlib.sha256(str(TEXTS).encode()).hexdigest()
        labels = dict(sorted(Counter(label for label in part["label"].to_pylist() if label is not None).items()))
        digest = {file.name: sha256_of(file)}
        manifest = TextManifest(rows=part.num_rows, labels=labels, columns=columns, inputs=inputs, sha256=digest)
        write_sealed(folder / MANIFEST, manifest)
        written.append(split)
    return written


def _copy_resources(transaction: Transaction, files: Mapping[str, Path]) -> None:
    if not files:
        return
    folder = transaction.new("resources")
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    write_sealed(folder / MANIFEST, FolderManifest(sha256={name: sha256_of(folder / name) for name in files}))


def _stored(root: Path, *patterns: str) -> list[str]:
    """Folders of the store that hold a manifest."""
    return [path.parent.relative_to(root).as_posix() for pattern in patterns for path in root.glob(f"{pattern}/{MANIFEST}")]
