"""Texts as samples: segment A holds the tokens of a text, segment B those of a second text, or none; there is no context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.data.input_groups import InputGroup
from ctr_kd.data.samples import Assembly, Samples, Segment, Signature
from feature_store.config import AugmentationConfig
from feature_store.special_tokens import SPECIALS
from feature_store.tables.json_files import load_json
from feature_store.tables.parquet_files import read_parquet
from feature_store.text.augmentation import Augmenter
from feature_store.text.dataset import load_tokenizer
from feature_store.text.summary import TextSummary

TEXTS = "texts.parquet"  # an assembly that has it holds texts
FEATURE = "token"  # the one feature of a text's token
FEWEST_TOKENS = 2  # of a pretraining sequence: one alone has nothing to be predicted from


class TextAssembly:
    """Texts that the feature store assembled, as one of its tokenizers reads them.

    It answers the same questions as :class:`ctr_kd.data.samples.Assembly`, so that no model and no training asks which of them it has.

    Parameters
    ----------
    directory : Path
        An artifact of ``feature_store.text.dataset``.
    view : str
        Whose tokens: ``teacher`` or ``student``.
    """

    labels: tuple[str, ...] = ()  # a text has one

    def __init__(self, directory: Path, view: str) -> None:
        self.directory = directory
        self.view = directory / view
        self.summary = TextSummary.read(directory)
        self.classes: list[str] = load_json(directory / "classes.json")
        self.vocabulary: dict[str, list[str]] = load_json(self.view / "vocabulary.json")
        self.pool: np.ndarray = np.load(self.view / "tokens.npy", mmap_mode="r")  # (tokens, 1)
        self._texts = read_parquet(directory / TEXTS, columns=["row_id", "split", "label", "leaked"])
        ranges = read_parquet(self.view / "ranges.parquet")
        self._ranges = {name: ranges[name].to_numpy() for name in ("a_start", "a_end", "b_start", "b_end")}

    def vocabulary_tokens(self) -> np.ndarray:
        """Token (vocabulary, 1) of every index of the vocabulary."""
        return np.arange(len(SPECIALS) + len(self.vocabulary[FEATURE]), dtype=np.int32)[:, None]

    def words(self) -> list[str]:
        """Word of every index of the vocabulary, special tokens first."""
        return [*SPECIALS, *self.vocabulary[FEATURE]]

    def token_vectors(self) -> np.ndarray | None:
        """Word vectors (vocabulary, dimensions) of the tokenizer's tokens, NaN where one has none; None where none are configured."""
        file = self.view / "vectors.npy"
        return np.load(file) if file.exists() else None

    def input_groups(self) -> dict[str, InputGroup]:
        """None: a student reads the text and nothing else."""
        return {}

    def signature(self) -> Signature:
        """Size of the vocabulary, number of classes, and the lengths of the longest first and second text, in tokens."""
        longest = {side: int((self._ranges[f"{side}_end"] - self._ranges[f"{side}_start"]).max(initial=0)) for side in "ab"}
        return Signature(
            tokens={FEATURE: len(SPECIALS) + len(self.vocabulary[FEATURE])},
            categorical={},
            dense={},
            outputs=len(self.classes),
            max_length=max(longest["a"], 1),
            max_length_b=longest["b"],
        )

    def samples(self, split: str) -> Samples:
        """Rows of one split: ``train``, ``validation``, ``test``, or ``unlabelled`` where there are such texts."""
        return self._samples(self._rows_of(split))

    def samples_of(self, rows: pa.Table) -> Samples:
        """The rows of a table in its order: those of the assembly by their ``row_id``, new ones, such as augmented ones, by their texts."""
        place = pc.index_in(rows["row_id"], value_set=self._texts["row_id"].combine_chunks())
        if not place.null_count:
            return self._samples(place.to_numpy())
        longest, tokenizer = self.signature(), load_tokenizer(self.view)

        def segment(name: str, most: int) -> Segment:
            tokens, offsets = tokenizer.encode(pc.fill_null(rows[name].cast(pa.string()), "").to_pylist())
            return Segment(tokens[:, None], offsets[:-1], np.minimum(offsets[1:], offsets[:-1] + most))

        a, b = segment("text", longest.max_length), segment("text_b", longest.max_length_b)
        return _as_samples(rows["row_id"].to_numpy(), a, b, rows["label"].to_numpy())

    def samples_of_file(self, file: Path) -> Samples:
        """The rows of a file, see :meth:`samples_of`."""
        return self.samples_of(read_parquet(file))

    def augmented(self, config: AugmentationConfig, seed: int) -> pa.Table:
        """New texts made of the training texts (:mod:`feature_store.text.augmentation`); none equals a validation or test text.

        Parameters
        ----------
        config : AugmentationConfig
        seed : int

        Returns
        -------
        pyarrow Table
            ``row_id`` (above all there are), ``split``, ``label`` (-1), ``text``, ``text_b`` and ``leaked``.
        """
        rows = read_parquet(self.directory / TEXTS)
        train = rows.filter(pc.equal(rows["split"], "train"))
        held_out = rows.filter(pc.is_in(rows["split"], pa.array(["validation", "test"])))
        forbidden = {text for name in ("text", "text_b") for text in held_out[name].to_pylist()} - {None}
        if not config.amount:  # reading the parts of speech takes its time
            train = train.slice(0, 0)
        second = train["text_b"].to_pylist() if self.summary.pair else None
        drawn = Augmenter(train["text"].to_pylist(), second, config).draw(round(config.amount * train.num_rows), seed, forbidden)
        first_id, count = pc.max(rows["row_id"]).as_py() + 1, len(drawn)
        columns = {
            "row_id": np.arange(first_id, first_id + count),
            "split": ["augmented"] * count,
            "label": np.full(count, -1, np.int32),
            "text": [text for _, text, _ in drawn],
            "text_b": pa.array([text for *_, text in drawn], rows.schema.field("text_b").type),
            "leaked": np.zeros(count, bool),
        }
        return pa.table({name: pa.array(values, rows.schema.field(name).type) for name, values in columns.items()})

    def unlabelled(self, amount: float, seed: int) -> tuple[pa.Table, int]:
        """Texts without labels, drawn at random from those that are no validation or test text.

        Parameters
        ----------
        amount : float
            Texts wanted, as a share of the training rows.
        seed : int

        Returns
        -------
        rows : pyarrow Table
            In the layout of ``texts.parquet`` and the order of their ids; all there are where that is fewer.
        wanted : int
        """
        wanted, there = round(amount * len(self._rows_of("train"))), self._rows_of("unlabelled")
        there = there[~self._texts["leaked"].to_numpy(zero_copy_only=False)[there]]
        chosen = np.sort(np.random.default_rng(seed).permutation(there)[:wanted])
        return read_parquet(self.directory / TEXTS).take(pa.array(chosen)), wanted

    def _rows_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(pc.equal(self._texts["split"], split).to_numpy(zero_copy_only=False))

    def _samples(self, rows: np.ndarray) -> Samples:
        at = {name: values[rows] for name, values in self._ranges.items()}
        a, b = (Segment(self.pool, at[f"{side}_start"], at[f"{side}_end"]) for side in "ab")
        return _as_samples(self._texts["row_id"].to_numpy()[rows], a, b, self._texts["label"].to_numpy()[rows])

    def training_window(self) -> tuple[None, None]:
        """Texts have no time: what may be learned from is a question of their split alone."""
        return None, None

    def sequences(self, until: int | None = None, overlap: float = 0.0) -> Segment:
        """The distinct texts to pretrain on, first and second ones alike: those of the training rows and unlabelled ones.

        A text that is also one of the validation or test rows is left out, whatever row it is in.

        Parameters
        ----------
        until : None
            Texts have no time.
        overlap : float
            Has no effect: no text is longer than what the tokenizer kept of it.
        """
        split = self._texts["split"].to_numpy(zero_copy_only=False)
        leaked = self._texts["leaked"].to_numpy(zero_copy_only=False)
        learned = np.tile((split == "train") | ((split == "unlabelled") & ~leaked), 2)
        start = np.concatenate([self._ranges["a_start"], self._ranges["b_start"]])
        end = np.concatenate([self._ranges["a_end"], self._ranges["b_end"]])
        text = self._text_codes()
        first = np.zeros(len(text), bool)
        first[np.unique(text[learned], return_index=True)[1]] = True
        chosen = np.flatnonzero(learned)[first[: learned.sum()]]
        chosen = chosen[~np.isin(text[chosen], text[~learned]) & (end[chosen] - start[chosen] >= FEWEST_TOKENS)]
        return Segment(self.pool, start[chosen], end[chosen])

    def users_of(self, sequences: Segment) -> np.ndarray:
        """Each sequence is a unit of its own, int64 (sequences,): no text is twice among :meth:`sequences`."""
        return np.arange(len(sequences.start))

    def _text_codes(self) -> np.ndarray:
        """A number (2 * rows,) for each first and each second text, equal where the texts are."""
        texts = read_parquet(self.directory / TEXTS, columns=["text", "text_b"])
        both = pa.chunked_array([*texts["text"].cast(pa.string()).chunks, *texts["text_b"].cast(pa.string()).chunks], pa.string())
        codes: np.ndarray = both.fill_null("").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        return codes


def _as_samples(row_id: np.ndarray, a: Segment, b: Segment, label: np.ndarray) -> Samples:
    """Texts have no context, and each is a request and a user of its own."""
    none = len(row_id), 0
    return Samples(row_id, row_id, row_id, a, b, np.zeros(none, np.int32), np.zeros(none, np.float32), label.astype(np.float32))


AnyAssembly = Assembly | TextAssembly
