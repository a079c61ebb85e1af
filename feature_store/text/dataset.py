"""Assembly of texts: from the store to rows, and what each of two readers, teacher and student, sees of them.

texts.parquet   a row per text or pair, in order of row_id: row_id, split, label (index of the class, -1 none), text, text_b, leaked
classes.json    names of the classes, in the order of their indices
audit.json      texts that occur twice, within and between the splits (audit.py)
summary.json    counts
teacher/, student/
    tokens.npy        int32 (tokens, 1): the tokens of all texts; five special tokens come before the vocabulary and none is here
    ranges.parquet    row_id, a_start, a_end, b_start, b_end: where the texts of each row are in it, in the rows' order
    vocabulary.json   {"token": [...]}, fitted on the training rows alone or read from a vocab.txt
    vectors.npy       float32 (5 + vocabulary, dimensions), where the tokenizer has word vectors; NaN where a token has none
    tokenizer.json    kind and options, from which ``tokenizers.TOKENIZERS[kind].from_dict`` builds the tokenizer again
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.config import TokenizerConfig, TokensConfig
from feature_store.config_types import is_auto
from feature_store.readers.text import SPLITS
from feature_store.special_tokens import SPECIALS, UNKNOWN
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json, write_json
from feature_store.text.audit import audit_texts
from feature_store.text.scripts import has_ascii_words
from feature_store.text.summary import TextSummary, VectorCounts, ViewSummary
from feature_store.text.tokenizers import TOKENIZERS, Tokenizer, fit_tokenizer
from feature_store.text.tokenizers.wordpiece import WordPiece
from feature_store.text.word_vectors import read_vectors

MOST_TOKENS = {"teacher": 250, "student": 2048}
"""Tokens kept of a text where its length is ``auto``. A released BERT has 512 positions, which hold a pair of 250 and what frames it."""

ENOUGH = 0.99  # share of the training texts that `auto` keeps whole

VIEWS = tuple(MOST_TOKENS)
TEXTS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("text", pa.string()),
        ("text_b", pa.string()),
        ("leaked", pa.bool_()),
    ]
)


def assemble_texts(store: Store, tokens: TokensConfig, output: Path, report: Callable[[str], object] = lambda line: None) -> TextSummary:
    """Make the rows of a store of texts, and both views of them.

    Parameters
    ----------
    store : Store
        Filled by :func:`feature_store.text.ingest.ingest_texts`, with the vocabulary files that ``tokens`` names as its resources.
    tokens : TokensConfig
        How teacher and student read.
    output : Path
        Folder for the files; made if needed.
    report : callable
        Takes lines of progress.

    Returns
    -------
    TextSummary
        The content of ``summary.json``.

    Raises
    ------
    DataError
        When the store holds no texts, a file of it is damaged, or a vocabulary cannot be used.
    """
    output.mkdir(parents=True, exist_ok=True)
    contract = store.text_contract
    store.verify()
    stored = pa.concat_tables([pq.ParquetFile(file).read() for split in SPLITS if (file := store.text_file(split))])
    audit, leaked = audit_texts(stored)
    rows, left_out = _rows(stored, contract.classes, leaked)
    training = rows.filter(pc.equal(rows["split"], "train"))
    texts = [text for name in ("text", "text_b") for text in training[name].to_pylist() if text is not None]
    pq.write_table(rows, output / "texts.parquet", compression="zstd", store_schema=False)
    views: dict[str, ViewSummary] = {}
    most = dict.fromkeys(VIEWS, MOST_TOKENS["teacher"]) if tokens.teacher == tokens.student else MOST_TOKENS  # alike: one vocabulary
    for view in VIEWS:
        config = _with_kind(getattr(tokens, view), texts)
        tokenizer = _tokenizer(store, config, texts, most[view])
        seen = write_view(rows, tokenizer, output / view)
        length = f"{seen.mean_length:.1f} of them in a text, {seen.max_length:,} at most"
        report(f"{view}: {config.kind}, {len(tokenizer.tokens):,} tokens, {length}")
        if config.vectors is not None:
            vectors = _write_vectors(store.resource(config.vectors), tokenizer, output / view, report)
            seen = seen.model_copy(update={"vectors": vectors})
        views[view] = seen
    write_json(output / "classes.json", contract.classes)
    write_json(output / "audit.json", audit)
    summary = TextSummary(
        rows={split: count for split in SPLITS if (count := pc.sum(pc.equal(rows["split"], split)).as_py())},
        classes=len(contract.classes),
        pair=contract.pair,
        leaked={split: pc.sum(pc.and_(rows["leaked"], pc.equal(rows["split"], split))).as_py() for split in ("validation", "test")},
        unlabelled_left_out=left_out,
        views=views,
        unseen_token_share=views["student"].unseen_token_share,
    )
    summary.write(output)
    return summary


def load_tokenizer(view: Path) -> Tokenizer:
    """The tokenizer of a view, by its ``tokenizer.json`` and ``vocabulary.json``."""
    values = load_json(view / "tokenizer.json")
    vocabulary = load_json(view / "vocabulary.json")
    return TOKENIZERS[values["kind"]].from_dict(values, vocabulary["token"])


def write_view(rows: pa.Table, tokenizer: Tokenizer, output: Path) -> ViewSummary:
    """Write what one reader sees of the rows.

    Parameters
    ----------
    rows : pa.Table
        ``row_id``, ``split``, ``text`` and ``text_b``.
    tokenizer : Tokenizer
    output : Path
        Folder of the view; made if needed.

    Returns
    -------
    ViewSummary
    """
    output.mkdir(parents=True, exist_ok=True)
    second = pc.fill_null(rows["text_b"], "").to_pylist()
    (tokens_a, offsets_a), (tokens_b, offsets_b) = tokenizer.encode(rows["text"].to_pylist()), tokenizer.encode(second)
    pool = np.concatenate([tokens_a, tokens_b])
    np.save(output / "tokens.npy", pool[:, None])
    offsets_b = offsets_b + len(tokens_a)
    places = {"a_start": offsets_a[:-1], "a_end": offsets_a[1:], "b_start": offsets_b[:-1], "b_end": offsets_b[1:]}
    ranges = pa.table({"row_id": rows["row_id"], **{name: pa.array(place, pa.int64()) for name, place in places.items()}})
    pq.write_table(ranges, output / "ranges.parquet", compression="zstd", store_schema=False)
    write_json(output / "vocabulary.json", {"token": tokenizer.tokens})
    write_json(output / "tokenizer.json", tokenizer.to_dict())
    is_test = np.asarray(pc.equal(rows["split"], "test"))
    length_a, length_b = np.diff(offsets_a), np.diff(offsets_b)
    whole = _with_unknown(tokenizer)
    if whole is tokenizer:
        tested = pool[np.concatenate([np.repeat(is_test, length_a), np.repeat(is_test, length_b)])]
    else:
        test = rows.filter(is_test)
        tested, _ = whole.encode([*test["text"].to_pylist(), *pc.fill_null(test["text_b"], "").to_pylist()])
    return ViewSummary(
        tokens=len(tokenizer.tokens),
        mean_length=float(length_a.mean()),
        max_length=int(max(length_a.max(), length_b.max())),
        empty=int((length_a == 0).sum()),
        unseen_token_share=float((tested == UNKNOWN).mean()) if len(tested) else 0.0,
    )


def _rows(stored: pa.Table, classes: Sequence[str], leaked: np.ndarray) -> tuple[pa.Table, int]:
    """Rows in the order of their ids, without the unlabelled ones whose text is to be tested, and how many those are."""
    index = pc.fill_null(pc.index_in(stored["label"], pa.array(classes, pa.string())), -1)
    rows = stored.set_column(stored.schema.get_field_index("label"), "label", index).append_column("leaked", pa.array(leaked))
    forbidden = pc.and_(rows["leaked"], pc.equal(rows["split"], "unlabelled"))
    rows = rows.filter(pc.invert(forbidden)).sort_by("row_id")
    return pa.table([rows[field.name] for field in TEXTS], schema=TEXTS), pc.sum(forbidden).as_py()


def _with_kind(config: TokenizerConfig, texts: Sequence[str]) -> TokenizerConfig:
    """A tokenizer whose kind is named: what ``auto`` comes to on the training texts."""
    return config if config.kind != "auto" else config.model_copy(update={"kind": "words" if has_ascii_words(texts) else "ngrams"})


def _tokenizer(store: Store, config: TokenizerConfig, texts: Sequence[str], most: int) -> Tokenizer:
    """A tokenizer as configured; of ``max_length: auto`` with the length that fits the training texts, at most ``most``."""
    if not is_auto(config.max_length):
        return _tokenizer_of_length(store, config, texts)
    widest = _tokenizer_of_length(store, config.model_copy(update={"max_length": most}), texts)
    lengths = np.diff(_with_unknown(widest).encode(texts)[1])
    fitting = int(np.quantile(lengths, ENOUGH, method="inverted_cdf")) if len(lengths) else 1
    return TOKENIZERS[config.kind].from_dict({**widest.to_dict(), "max_length": max(1, fitting)}, widest.tokens)


def _with_unknown(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with [UNK] for each token that it leaves out."""
    said = tokenizer.to_dict()
    return tokenizer if said.pop("keep_unknown", True) else TOKENIZERS[said["kind"]].from_dict(said, tokenizer.tokens)


def _tokenizer_of_length(store: Store, config: TokenizerConfig, texts: Sequence[str]) -> Tokenizer:
    if config.vocabulary is None:
        return fit_tokenizer(config, texts)
    path = store.resource(config.vocabulary)
    try:
        # Only a line feed ends a line: a vocab.txt holds other line ends as tokens.
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
        return WordPiece.from_lines(lines, max_length=config.max_length, lowercase=config.lowercase)
    except UnicodeDecodeError:
        raise DataError(f"{config.vocabulary}: is not UTF-8; it should hold one token a line, as the vocab.txt of a BERT does") from None
    except ValueError as error:
        raise DataError(f"{config.vocabulary}: {error}; use the vocab.txt of a BERT, or vocabulary: null to fit one") from None


def _write_vectors(path: Path, tokenizer: Tokenizer, view: Path, report: Callable[[str], object]) -> VectorCounts:
    """Vectors of the vocabulary by index, and how many of its tokens have one."""
    found = read_vectors(path, tokenizer.tokens)
    specials = np.full((len(SPECIALS), found.vectors.shape[1]), np.nan, np.float32)
    np.save(view / "vectors.npy", np.concatenate([specials, found.vectors]))
    report(
        f"{view.name}: {found.missing:,} of {len(tokenizer.tokens):,} tokens have no vector among the {found.file_words:,} of {path.name}"
    )
    return VectorCounts(
        dimensions=found.vectors.shape[1], exact=found.exact, folded=found.folded, missing=found.missing, file_words=found.file_words
    )
