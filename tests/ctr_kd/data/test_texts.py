"""Texts as samples."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.data.samples import Assembly
from ctr_kd.data.texts import TextAssembly
from ctr_kd.retrieval.unlabelled_pairs import join_rows
from feature_store.config import AugmentationConfig
from feature_store.special_tokens import SPECIALS
from tests.ctr_kd.text_worlds import CLASSES, write_texts
from tests.ctr_kd.worlds import write_assembly


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def texts(request, tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"), pair=request.param)


def spelled(assembly, segment, row):
    """The letters of a row's tokens."""
    index = assembly.pool[segment.start[row] : segment.end[row], 0]
    return "".join("?" if i < len(SPECIALS) else assembly.vocabulary["token"][i - len(SPECIALS)] for i in index)


def test_samples_are_the_texts_of_the_split_in_order(texts):
    assembly, table = TextAssembly(texts, "teacher"), pq.read_table(texts / "texts.parquet").to_pylist()
    for split in ("train", "validation", "test", "unlabelled"):
        samples, rows = assembly.samples(split), [row for row in table if row["split"] == split]
        assert samples.row_id.tolist() == [row["row_id"] for row in rows]
        assert samples.label.tolist() == [row["label"] for row in rows]
        assert [spelled(assembly, samples.b, i) for i in range(len(rows))] == [
            "".join(letter if letter in assembly.vocabulary["token"] else "?" for letter in row["text_b"]) for row in rows
        ]
        assert [spelled(assembly, samples.a, i) for i in range(len(rows))] == [row["text"] for row in rows]
    some = assembly.samples_of(pa.table({"row_id": [3, 1]}))
    assert some.row_id.tolist() == [3, 1] and spelled(assembly, some.a, 1) == table[1]["text"]


def test_the_signature_counts_classes_tokens_and_lengths(texts):
    signature = TextAssembly(texts, "student").signature()
    pair = TextAssembly(texts, "student").summary.pair
    assert signature.outputs == len(CLASSES) and not signature.categorical and not signature.dense
    assert list(signature.tokens) == ["token"] and signature.max_length == 10 + 9
    assert signature.max_length_b == (5 + 4 if pair else 0)
    assert len(TextAssembly(texts, "student").vocabulary_tokens()) == signature.tokens["token"]


def test_no_validation_or_test_text_is_pretrained_on(texts):
    """Whatever row such a text is in: five tests are copies of training rows, and one test text is an unlabelled one."""
    assembly = TextAssembly(texts, "teacher")
    sequences = assembly.sequences(None)
    seen = {spelled(assembly, sequences, row) for row in range(len(sequences.start))}
    table = pq.read_table(texts / "texts.parquet").to_pylist()
    held_out = {row[name] for row in table if row["split"] in ("validation", "test") for name in ("text", "text_b")}
    learned = {row[name] for row in table if row["split"] in ("train", "unlabelled") for name in ("text", "text_b")}
    assert len(learned & held_out) >= 6
    assert seen == {text for text in learned - held_out if len(text) > 1}
    assert len(seen) == len(sequences.start) == len(np.unique(assembly.users_of(sequences)))


def test_unlabelled_texts_are_drawn_by_seed_and_amount(texts):
    assembly = TextAssembly(texts, "student")
    rows, wanted = assembly.unlabelled(0.05, 1)
    assert wanted == rows.num_rows == 12 and set(rows["split"].to_pylist()) == {"unlabelled"}
    assert rows["row_id"].to_pylist() == sorted(rows["row_id"].to_pylist())
    assert assembly.unlabelled(0.05, 1)[0].equals(rows) and not assembly.unlabelled(0.05, 2)[0].equals(rows)
    everything = assembly.unlabelled(10.0, 1)[0]
    assert everything.num_rows == 19 and not any(everything["leaked"].to_pylist())  # the first is a test text


def test_word_vectors_are_there_where_the_tokenizer_has_them(tmp_path):
    directory = write_texts(tmp_path / "texts")
    np.save(directory / "student" / "vectors.npy", np.ones((9, 2), np.float32))
    assert TextAssembly(directory, "student").token_vectors().shape == (9, 2)
    assert TextAssembly(directory, "teacher").token_vectors() is None
    assert Assembly(write_assembly(tmp_path / "clicks"), 5).token_vectors() is None


def test_augmented_rows_are_new_texts_that_both_readers_can_read(texts):
    config = AugmentationConfig(amount=0.5, mask_rate=0.2, replace_rate=0.6)
    views = {view: TextAssembly(texts, view) for view in ("teacher", "student")}
    table = pq.read_table(texts / "texts.parquet")
    rows = views["student"].augmented(config, 0)
    assert 0 < rows.num_rows <= 120 and rows.equals(views["teacher"].augmented(config, 0))
    assert min(rows["row_id"].to_pylist()) == table.num_rows and set(rows["label"].to_pylist()) == {-1}
    held_out = {row["text"] for row in table.to_pylist() if row["split"] in ("validation", "test")}
    assert not held_out & set(rows["text"].to_pylist())
    for assembly in views.values():
        samples, longest = assembly.samples_of(rows), assembly.signature()
        assert samples.row_id.tolist() == rows["row_id"].to_pylist()
        assert (samples.a.end - samples.a.start).max() <= longest.max_length
        assert (samples.b.end - samples.b.start).max() <= longest.max_length_b
    spelled_text = spelled(views["teacher"], views["teacher"].samples_of(rows).a, 0)
    assert len(spelled_text) == len(rows["text"][0].as_py())
    assert views["student"].augmented(AugmentationConfig(), 0).num_rows == 0


def test_new_rows_join_those_of_the_assembly(texts, tmp_path):
    assembly = TextAssembly(texts, "teacher")
    train, rows = assembly.samples("train"), assembly.augmented(AugmentationConfig(amount=0.2, mask_rate=0.5), 1)
    made = assembly.samples_of(rows)
    joined = join_rows(train, made, tmp_path)
    assert joined.row_id.tolist() == [*train.row_id.tolist(), *made.row_id.tolist()]
    for side in ("a", "b"):
        for samples, begin in ((train, 0), (made, len(train))):
            for i in range(len(samples)):
                one, two = getattr(joined, side), getattr(samples, side)
                assert one.pool[one.start[begin + i] : one.end[begin + i]].tolist() == two.pool[two.start[i] : two.end[i]].tolist()
