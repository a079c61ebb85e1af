import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.config import SourceConfig
from feature_store.store.ingest import IngestSummary
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from feature_store.text import ingest as text_ingest
from feature_store.text.ingest import ingest_texts, is_held_out

TRAIN = [("one", "b"), ("two", "a"), ("three", "a"), ("One!", "b"), ("four", "c")]


class World:
    """A data folder, a store, and the ingestion of one into the other."""

    def __init__(self, root: Path, **source: Any) -> None:
        self.data, self.root, self.failed = root / "data", root / "workspace" / "store", root / "workspace" / "failed"
        self.data.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.root)
        files = {"train": "train.tsv", "validation": "validation.tsv", "test": "test.tsv", "bad_rows_limit": 0.5}
        self.source = SourceConfig.model_validate({"reader": "text", **files, **source})
        self.write("train.tsv", TRAIN)
        self.write("validation.tsv", [("five", "a")])
        self.write("test.tsv", [("six", "c")])

    def write(self, name: str, rows: list[tuple]) -> None:
        (self.data / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")

    def ingest(self, *resources: str) -> IngestSummary:
        return ingest_texts(self.source, self.data, self.store, self.failed, resources=resources)

    def rows(self, split: str) -> list[dict]:
        file = self.store.text_file(split)
        return pq.ParquetFile(file).read().to_pylist() if file else []

    def texts(self, split: str) -> list[str]:
        return [row["text"] for row in self.rows(split)]

    def quarantine(self) -> list[tuple]:
        rows = pq.read_table(self.root / "quarantine" / "quarantine.parquet").to_pylist()
        return [(row["file"], row["line"], row["reason"]) for row in rows]

    def bytes(self) -> dict[str, bytes]:
        files = sorted(path for path in self.root.rglob("*") if path.is_file()) if self.root.exists() else []
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


def test_each_file_is_a_split_and_the_classes_are_those_of_training(tmp_path: Path) -> None:
    world = World(tmp_path)
    summary = world.ingest()
    assert (summary.rows_read, summary.rows_stored, summary.partitions_written) == (7, 7, ["train", "validation", "test"])
    assert world.store.contract.to_json() == {"texts": {"pair": False, "classes": ["a", "b", "c"]}}
    assert world.rows("train")[1] == {
        "row_id": 1,
        "text": "two",
        "text_b": None,
        "label": "a",
        "split": "train",
        "source": "train.tsv",
        "line": 2,
    }
    assert [row["row_id"] for split in ("train", "validation", "test") for row in world.rows(split)] == list(range(7))
    manifest = json.loads((world.root / "texts/split=train/_manifest.json").read_text())
    assert (manifest["rows"], manifest["labels"], list(manifest["inputs"])) == (5, {"a": 2, "b": 2, "c": 1}, ["train.tsv"])
    world.store.verify()


def test_a_second_ingestion_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ingest()
    before, digest = world.bytes(), world.store.digest()
    summary = world.ingest()
    assert (summary.files, summary.partitions_unchanged, world.bytes(), world.store.digest()) == (0, 3, before, digest)
    shutil.rmtree(world.root)
    world.ingest()
    assert world.bytes() == before


def test_a_changed_file_replaces_its_rows(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("test.tsv", [("six", "c"), ("seven", "unheard")])
    world.ingest()
    digest = world.store.digest()
    world.write("test.tsv", [("six", "c"), ("seven", "a")])
    world.ingest()
    assert world.texts("test") == ["six", "seven"] and world.store.digest() != digest and not (world.root / "quarantine").exists()


def test_bad_rows_go_to_quarantine_with_file_and_line(tmp_path: Path) -> None:
    world = World(tmp_path, bad_rows_limit=0.7)
    world.write("train.tsv", [*TRAIN, (" ", "a"), ("x\0y", "a"), ("text", ""), ("😀 emoji", "a"), ("字" * 10_000, "b")])
    with open(world.data / "train.tsv", "ab") as file:
        file.write(b"half a pair: " + "\ud83d".encode(errors="surrogatepass") + b"\ta\n" + b"\xff\xfe\ta\nnobody\n")
    world.write("test.tsv", [("six", "c"), ("seven", "unheard")])
    summary = world.ingest()
    assert world.quarantine() == [
        ("test.tsv", 2, "label is no known class"),
        ("train.tsv", 6, "text is empty"),
        ("train.tsv", 7, "text holds a NUL character"),
        ("train.tsv", 8, "label is empty"),
        ("train.tsv", 11, "text is not UTF-8"),
        ("train.tsv", 12, "text is not UTF-8"),
        ("train.tsv", 13, "wrong number of columns"),
    ]
    assert summary.rows_stored + summary.rows_quarantined == summary.rows_read == 16
    assert world.texts("train")[-2:] == ["😀 emoji", "字" * 10_000]


def test_json_escapes_of_surrogates(tmp_path: Path) -> None:
    world = World(tmp_path, train="train.json", test="test.json", validation=None, text="t", label="l", validation_share=0.5, seed=3)
    texts = [(r"\ud83d\ude00", 1), (r"half \ud83d", 1), (r"b\u0000c", 0), ("d", 0), ("e", 10), ("f", 0)]
    (world.data / "train.json").write_text("[" + ",".join(f'{{"t": "{text}", "l": {label}}}' for text, label in texts) + "]")
    world.data.joinpath("test.json").write_text('[{"t": "z", "l": 10}]')
    world.ingest()
    assert sorted(world.texts("train") + world.texts("validation")) == ["d", "e", "f", "😀"]
    assert {reason for *_, reason in world.quarantine()} == {"text is not UTF-8", "text holds a NUL character"}
    assert world.store.text_contract.classes == ["0", "1", "10"], "numbers sort as numbers"


def test_above_the_limit_the_store_is_as_it_was(tmp_path: Path) -> None:
    world = World(tmp_path, bad_rows_limit=0.1)
    world.ingest()
    before = world.bytes()
    world.write("test.tsv", [("six", "c"), ("seven", "x"), ("eight", "x")])
    with pytest.raises(
        DataError, match=r"2 of 9 rows \(22.22%\) break the contract.*label is no known class \(2 rows, first at test.tsv:2\)"
    ):
        world.ingest()
    assert world.bytes() == before
    assert pq.read_table(world.failed / "quarantine.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("train.tsv", [("one", "a"), ("two", "a")], "all rows have the label 'a'; a classifier needs two classes"),
        ("test.tsv", [(" ", "a")], "test.tsv: holds no row that can be used"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path: Path, name: str, rows: list[tuple], message: str) -> None:
    world = World(tmp_path)
    world.write(name, rows)
    if name == "train.tsv":
        world.write("test.tsv", [("six", "a")])
    with pytest.raises(DataError, match=message):
        world.ingest()
    assert not world.bytes()


def test_an_interrupted_ingestion_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.ingest()
    before = world.bytes()
    world.write("test.tsv", [("seven", "a")])
    with monkeypatch.context() as patch:
        patch.setattr(text_ingest, "write_sealed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.ingest()
    assert world.bytes() == before
    world.ingest()
    assert world.texts("test") == ["seven"]


def test_numbers_are_the_lines_of_the_file_of_names(tmp_path: Path) -> None:
    world = World(tmp_path, class_names="names.txt")
    (world.data / "names.txt").write_text("car\nhouse\n")
    world.write("train.tsv", [("one", "0"), ("two", "1"), ("three", "house"), ("four", "2")])
    world.write("validation.tsv", [("five", "0")])
    world.write("test.tsv", [("six", "1")])
    world.ingest()
    assert [row["label"] for row in world.rows("train")] == ["car", "house", "house"]
    assert world.store.text_contract.classes == ["car", "house"] and world.quarantine()[0][:2] == ("train.tsv", 4)


def test_resources_are_part_of_the_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.data / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(DataError, match="was not ingested"):
        world.store.resource("vocab.txt")
    world.ingest("vocab.txt")
    digest = world.store.digest()
    assert world.store.resource("vocab.txt").read_text() == "[UNK]\n"
    (world.data / "vocab.txt").write_text("[UNK]\na\n")
    world.ingest("vocab.txt")
    assert world.store.digest() != digest
    world.ingest()
    assert not (world.root / "resources").exists()
    for name in ("../vocab.txt", "/vocab.txt", "other.txt"):
        with pytest.raises(DataError, match="the data folder"):
            world.ingest(name)


def test_a_share_of_training_is_held_out_and_equal_texts_stay_together(tmp_path: Path) -> None:
    world = World(tmp_path, validation=None, validation_share=0.3)
    rows = [(f"{text}{sign}", "ab"[place % 2]) for place in range(200) for text, sign in ((f"title {place}", ""), (f"TITLE {place}", "！"))]
    world.write("train.tsv", rows)
    world.write("test.tsv", [("six", "a")])
    world.ingest()
    train, validation = ({text.lower().rstrip("！") for text in world.texts(split)} for split in ("train", "validation"))
    assert not train & validation and len(train | validation) == 200 and 30 <= len(validation) <= 90
    world.write("train.tsv", rows[:-20])
    world.ingest()
    kept = {text.lower().rstrip("！") for text in world.texts("validation")}
    assert kept == validation - {f"title {place}" for place in range(190, 200)}, "rows that come or go move no other row"


def test_a_share_that_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, validation=None, validation_share=0.001)
    with pytest.raises(DataError, match=r"source.validation_share 0.001 leaves 5 of its 5 rows to train on and 0 to validate on"):
        world.ingest()


@given(st.lists(st.text(), min_size=1, max_size=20), st.integers(0, 5))
def test_holding_out_is_a_function_of_text_and_seed(keys: list[str], seed: int) -> None:
    held = is_held_out([*keys, *reversed(keys)], 0.4, seed)
    assert held.tolist() == held[::-1].tolist() == is_held_out(keys, 0.4, seed).tolist() + is_held_out(keys, 0.4, seed).tolist()[::-1]
