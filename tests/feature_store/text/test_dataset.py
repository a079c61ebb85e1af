import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.config import TokensConfig
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.text.dataset import MOST_TOKENS, assemble_texts, load_tokenizer
from feature_store.text.summary import TextSummary
from tests.feature_store.logs import Event, write_store
from tests.feature_store.text.test_ingest import World
from tests.odd_names import odd_folder

TOKENS = {"teacher": {"kind": "characters", "min_count": 1}, "student": {"kind": "ngrams", "lengths": [1, 2], "min_count": 1}}


def assemble(world: World, output: Path, **tokens: Any) -> TextSummary:
    config = TokensConfig.model_validate({**TOKENS, **tokens})
    names = {name for view in (config.teacher, config.student) for name in (view.vocabulary, view.vectors) if name}
    world.ingest(*names)
    return assemble_texts(world.store, config, output)


def read(output: Path) -> list[dict]:
    return pq.read_table(output / "texts.parquet").to_pylist()


def words_of(output: Path, view: str) -> list[tuple[str, str]]:
    """Both texts of each row, from the files of a view alone."""
    pool = np.load(output / view / "tokens.npy")
    assert pool.dtype == np.int32 and pool.shape[1] == 1
    names = ["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]", *json.loads((output / view / "vocabulary.json").read_text())["token"]]
    ranges = pq.read_table(output / view / "ranges.parquet").to_pylist()
    assert [row["row_id"] for row in ranges] == [row["row_id"] for row in read(output)]
    spoken = [[" ".join(names[i] for i in pool[row[f"{side}_start"] : row[f"{side}_end"], 0]) for side in "ab"] for row in ranges]
    return [(first, second) for first, second in spoken]


def test_rows_classes_and_views(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [("ab", "y"), ("b", "x"), ("ca", "x")])
    world.write("validation.tsv", [("a", "x")])
    world.write("test.tsv", [("bd", "y"), ("B!", "x")])
    summary = assemble(world, output)
    assert json.loads((output / "classes.json").read_text()) == ["x", "y"]
    assert [(row["row_id"], row["split"], row["label"], row["text"], row["leaked"]) for row in read(output)] == [
        (0, "train", 1, "ab", False),
        (1, "train", 0, "b", False),
        (2, "train", 0, "ca", False),
        (3, "validation", 0, "a", False),
        (4, "test", 1, "bd", False),
        (5, "test", 0, "B!", True),
    ]
    assert words_of(output, "teacher") == [("a b", ""), ("b", ""), ("c a", ""), ("a", ""), ("b [UNK]", ""), ("b [UNK]", "")]
    assert words_of(output, "student")[2:5] == [("c ca a", ""), ("a", ""), ("b [UNK] [UNK]", "")]
    assert summary.rows == {"train": 3, "validation": 1, "test": 2} and summary.leaked == {"validation": 0, "test": 1}
    assert (summary.classes, summary.pair, summary.views["teacher"].unseen_token_share) == (2, False, 0.5)
    assert TextSummary.read(output) == summary
    assert json.loads((output / "audit.json").read_text())["normalised"]["between"]["train - test"]["rows"] == 1


def test_the_files_do_not_depend_on_the_names_of_the_folders_above_them(tmp_path: Path) -> None:
    for root in (tmp_path / "plain", odd_folder(tmp_path / "odd")):
        root.mkdir(exist_ok=True)
        world = World(root)
        world.write("train.tsv", [("ab", "y"), ("b", "x"), ("ca", "x")])
        world.write("validation.tsv", [("a", "x")])
        world.write("test.tsv", [("bd", "y"), ("B!", "x")])
        world.write("my [words]*?.txt", [("[PAD]",), ("[UNK]",), ("[CLS]",), ("[SEP]",), ("[MASK]",), ("a",), ("b",)])
        assemble(world, root / "rows", teacher={"kind": "wordpiece", "vocabulary": "my [words]*?.txt"})
    for file in (tmp_path / "plain" / "rows").rglob("*.*"):
        assert file.read_bytes() == (root / "rows" / file.relative_to(tmp_path / "plain" / "rows")).read_bytes(), file


def test_pairs(tmp_path: Path) -> None:
    world, output = World(tmp_path, text=0, text_b=1, label=2), tmp_path / "rows"
    world.write("train.tsv", [("a", "bc", "0"), ("c", "a", "1")])
    world.write("validation.tsv", [("b", "c", "1")])
    world.write("test.tsv", [("BC", "a", "1")])
    summary = assemble(world, output)
    assert words_of(output, "teacher") == [("a", "b c"), ("c", "a"), ("b", "c"), ("b c", "a")]
    assert summary.pair and read(output)[3]["leaked"], "a pair is the same both ways round"
    assert read(output)[0]["text_b"] == "bc"


def test_nothing_but_training_texts_shapes_a_vocabulary(tmp_path: Path) -> None:
    """Validation, test and unlabelled texts may change, and no vocabulary does."""
    seen = []
    for name, others in (("first", "zz"), ("second", "qqqq")):
        world = World(tmp_path / name, unlabelled="more.tsv")
        world.write("more.tsv", [(others,)])
        world.write("validation.tsv", [(others, "a")])
        world.write("test.tsv", [(others, "b")])
        for kind in ("wordpiece", "characters", "words", "ngrams"):
            output = tmp_path / name / kind
            assemble(world, output, student={"kind": kind, "min_count": 1})
            seen.append((kind, (output / "student" / "vocabulary.json").read_bytes()))
    assert seen[:4] == seen[4:]


def test_a_length_of_auto_holds_99_of_100_training_texts_whole(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [*[(f"{n:03d}" + "ab" * 40, "xy"[n % 2]) for n in range(198)], ("c" * 9000, "x"), ("d" * 9000, "y")])
    world.write("validation.tsv", [("f" * 8000, "x")])
    world.write("test.tsv", [("e" * 8000, "y"), ("ab", "x")])
    summary = assemble(world, output, student={"kind": "ngrams", "lengths": [1, 3]})
    assert {view: load_tokenizer(output / view).to_dict()["max_length"] for view in MOST_TOKENS} == {"teacher": 83, "student": 3 * 83 - 3}
    assert (summary.views["teacher"].max_length, summary.views["student"].max_length) == (83, 246)  # no test text is longer


@pytest.mark.parametrize(("text", "kind", "tokens"), [("red shoe", "words", ["red", "shoe"]), ("红鞋", "ngrams", ["红", "红鞋", "鞋"])])
def test_a_kind_of_auto_follows_the_script_of_the_training_texts(tmp_path: Path, text: str, kind: str, tokens: list[str]) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [(text, "x"), (text, "y")])
    for split in ("validation", "test"):
        world.write(f"{split}.tsv", [("другой 文" * 9, "x")])
    assemble(world, output, student={"kind": "auto", "min_count": 1})
    tokenizer = load_tokenizer(output / "student")
    assert tokenizer.to_dict()["kind"] == kind
    assert sorted(tokenizer.tokens) == sorted(tokens)


def test_a_length_counts_unknown_tokens_and_they_are_counted_where_they_are_left_out(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [(f"{' '.join(f'w{n}x{k}' for k in range(9))} last", "xy"[n % 2]) for n in range(8)])
    world.write("validation.tsv", [("last", "x")])
    world.write("test.tsv", [("new last", "x")])
    summary = assemble(world, output, student={"kind": "words", "min_count": 2, "keep_unknown": False})
    assert words_of(output, "student") == [("last", "")] * 10
    assert summary.unseen_token_share == 0.5


def test_readers_that_are_alike_have_one_vocabulary(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [("".join(chr(0x4E00 + n) for n in range(3000)), "x"), ("一", "y")])
    for split in ("validation", "test"):
        world.write(f"{split}.tsv", [("二", "x")])
    assemble(world, output, student=TOKENS["teacher"])
    assert load_tokenizer(output / "student").tokens == load_tokenizer(output / "teacher").tokens


def test_a_length_of_auto_has_a_ceiling(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    world.write("train.tsv", [("长" * 6000, "x"), ("文" * 5000, "y")])
    world.write("validation.tsv", [("文", "x")])
    world.write("test.tsv", [("长", "x")])
    summary = assemble(world, output)
    assert {name: view.max_length for name, view in summary.views.items()} == MOST_TOKENS


def test_unlabelled_texts_that_are_tested_are_left_out(tmp_path: Path) -> None:
    world, output = World(tmp_path, unlabelled="more.tsv"), tmp_path / "rows"
    world.write("more.tsv", [("Six!",), ("seven",), ("five",), ("one",)])
    summary = assemble(world, output)
    unlabelled = [(row["text"], row["label"]) for row in read(output) if row["split"] == "unlabelled"]
    assert unlabelled == [("seven", -1), ("one", -1)] and summary.unlabelled_left_out == 2 and summary.rows["unlabelled"] == 2


def test_two_assemblies_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("first", "second"):
        assemble(world, tmp_path / name, student={"kind": "words"})
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert len(files) == 12 and all((tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes() for name in files)


@pytest.mark.parametrize("kind", ["wordpiece", "characters", "words", "ngrams"])
def test_the_tokenizer_of_a_view_reads_as_the_view_does(tmp_path: Path, kind: str) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    assemble(world, output, student={"kind": kind, "min_count": 1, "max_length": 4})
    indices, offsets = load_tokenizer(output / "student").encode([row["text"] for row in read(output)])
    ranges = pq.read_table(output / "student" / "ranges.parquet")
    assert np.load(output / "student" / "tokens.npy")[:, 0].tolist() == indices.tolist()
    assert ranges["a_start"].to_pylist() == offsets[:-1].tolist() and max(np.diff(offsets)) <= 4


def test_a_vocabulary_file(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    (world.data / "vocab.txt").write_bytes("[PAD]\r\n[UNK]\r\none\r\n\u2028\r\nt\r\n##wo\r\n".encode())
    assemble(world, output, teacher={"kind": "wordpiece", "vocabulary": "vocab.txt"})
    assert json.loads((output / "teacher" / "vocabulary.json").read_text()) == {"token": ["one", "\u2028", "t", "##wo"]}
    assert words_of(output, "teacher")[:2] == [("one", ""), ("t ##wo", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"one\ntwo\n", r"vocab.txt: the vocabulary has no \[UNK\]"), (b"[UNK]\n\xff\n", "not UTF-8"), (b"[UNK]\na\na\n", "holds 'a' twice")],
)
def test_a_vocabulary_file_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    world = World(tmp_path)
    (world.data / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        assemble(world, tmp_path / "rows", teacher={"kind": "wordpiece", "vocabulary": "vocab.txt"})


def test_word_vectors_stand_at_the_index_of_their_token(tmp_path: Path) -> None:
    world, output = World(tmp_path), tmp_path / "rows"
    (world.data / "words.txt").write_text("2 3\nTwo 1 2 3\none 4 5 6\n")
    summary = assemble(world, output, student={"kind": "words", "min_count": 1, "vectors": "words.txt"})
    tokens = json.loads((output / "student" / "vocabulary.json").read_text())["token"]
    vectors = np.load(output / "student" / "vectors.npy")
    assert vectors.shape == (5 + len(tokens), 3) and vectors[5 + tokens.index("one")].tolist() == [4, 5, 6]
    assert summary.views["student"].vectors.to_json() == {
        "dimensions": 3,
        "exact": 1,
        "folded": 1,
        "missing": len(tokens) - 2,
        "file_words": 2,
    }
    assert np.isnan(vectors).all(axis=1).sum() == 5 + len(tokens) - 2 and not (output / "teacher" / "vectors.npy").exists()


def test_a_click_log_is_no_store_of_texts(tmp_path: Path) -> None:
    store: Store = write_store(tmp_path / "store", [Event(1, 1, 0)], has_impressions=False)
    with pytest.raises(DataError, match="holds a click log, not texts"):
        assemble_texts(store, TokensConfig.model_validate(TOKENS), tmp_path / "rows")


def test_the_columns_are_those_that_learning_reads(tmp_path: Path) -> None:
    assemble(World(tmp_path), tmp_path / "rows")
    schema = pq.read_schema(tmp_path / "rows" / "texts.parquet")
    kinds = {
        "row_id": pa.int64(),
        "split": pa.string(),
        "label": pa.int32(),
        "text": pa.string(),
        "text_b": pa.string(),
        "leaked": pa.bool_(),
    }
    assert dict(zip(schema.names, schema.types, strict=True)) == kinds
