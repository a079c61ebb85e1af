import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from feature_store.config import SourceConfig
from feature_store.readers import delimited, json_elements
from feature_store.readers import text as text_reader
from feature_store.readers.text import TextReader
from feature_store.tables.contracts import DataError

NAMED = {"text": "text", "label": "label"}


def reader(data: Path, train: str = "train.tsv", **source: Any) -> TextReader:
    (data / "test.tsv").touch()
    return TextReader(SourceConfig.model_validate({"reader": "text", "train": train, "test": "test.tsv", **source}), data)


def rows(texts: TextReader, train: str = "train.tsv") -> list[tuple]:
    """(line, cells) of the training file."""
    found = []
    for batch in texts.read([path for path in texts.files() if path.name == train]):
        found += zip(batch.lines.tolist(), *batch.table.to_pydict().values(), strict=True)
    return found


def rejected(texts: TextReader, train: str) -> list[tuple[int, str]]:
    batches = texts.read([path for path in texts.files() if path.name == train])
    return [(row.line, row.reason) for batch in batches for row in batch.rejected]


def test_the_layouts_give_the_same_rows(tmp_path: Path) -> None:
    pairs = [("中国 title", "b"), ('"quoted" 🙂', "a")]
    files = {
        "plain.tsv": "".join(f"{text}\t{label}\n" for text, label in pairs),
        "plain.txt": "".join(f"{text}\t{label}\r\n" for text, label in pairs),
        "header.tsv": "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs),
        "objects.json": json.dumps([{"text": text, "label": label} for text, label in pairs], indent=1),
        "arrays.json": json.dumps(pairs),
        "lines.json": "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in pairs),
        "lines.jsonl": "".join(json.dumps(pair) + "\n\n" for pair in pairs),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode())
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        named = name in ("header.tsv", "objects.json", "lines.json")
        for train in (name, f"{name}.gz"):
            found = rows(reader(tmp_path, train, **(NAMED if named else {})), train)
            assert [tuple(cell.decode() for cell in row[1:]) for row in found] == pairs, train


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('[\n {"text": "a",\n  "label": 0},\n\n {"text": "b", "label": 1}, {"text": "c", "label": 1}\n]')
    assert rows(reader(tmp_path, "train.json", **NAMED), "train.json") == [(2, b"a", b"0"), (5, b"b", b"1"), (5, b"c", b"1")]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_any_length_is_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None) -> None:
    """Wherever the pieces that are read end: in a number, in an escape, between two elements."""
    pairs = [(f'{"中" * (n % 13)}\\u0041 " {n}', str(n)) for n in range(300)]
    (tmp_path / "train.json").write_text(json.dumps([{"text": text, "label": int(label)} for text, label in pairs], indent=indent))
    texts = reader(tmp_path, "train.json", **NAMED)
    whole = rows(texts, "train.json")
    assert [tuple(cell.decode() for cell in row[1:]) for row in whole] == pairs
    for chunk in (1, 7, 64):
        monkeypatch.setattr(json_elements, "_CHUNK", chunk)
        monkeypatch.setattr(text_reader, "BLOCK_BYTES", 500)
        assert rows(texts, "train.json") == whole
    assert len(list(texts.read([tmp_path / "train.json"]))) > 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b'{"text": "a", "label": 0}\n{"text": "' + b"x" * 5000 + b'"}\n', r"train.jsonl:2: a row is longer than"),
        ("train.json", b'[{"text": "a", "label": 0},\n{"text": "' + b"x" * 5000 + b'"}]', r"train.json:2: is no JSON.*or a value of more"),
        ("train.json", b'[{"text": "a", "label": 0},\n' + b"[" * 5000, r"train.json:2: is no JSON.*or a value of more"),
        ("train.tsv", b"text\tlabel" + b"x" * 5000 + b"\n", r"train.tsv:1: a row is longer than"),
    ],
)
def test_an_element_too_long_is_named_and_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    for module in (delimited, json_elements):
        monkeypatch.setattr(module, "LONGEST_ROW", 1024)
    monkeypatch.setattr(json_elements, "_CHUNK", 100)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows(reader(tmp_path, name, **NAMED), name)


def test_pairs_and_files_without_labels(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\tb\t1\n")
    (tmp_path / "more.tsv").write_text("c\td\n")
    texts = reader(tmp_path, text=0, text_b=1, label=2, unlabelled="more.tsv")
    assert texts.splits == {"train.tsv": "train", "test.tsv": "test", "more.tsv": "unlabelled"} and texts.has_pairs
    assert rows(texts) == [(1, b"a", b"b", b"1")]
    assert rows(texts, "more.tsv") == [(1, b"c", b"d")]


def test_unlabelled_texts_have_columns_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('[{"text": "a", "label": 0}]')
    (tmp_path / "more.tsv").write_text("news_car\tc\nnews_car\td\n")
    texts = reader(tmp_path, "train.json", **NAMED, unlabelled="more.tsv", unlabelled_columns={"text": 1})
    assert rows(texts, "train.json") == [(1, b"a", b"0")] and rows(texts, "more.tsv") == [(1, b"c"), (2, b"d")]
    other = reader(tmp_path, "train.json", **NAMED, unlabelled="more.tsv", unlabelled_columns={"text": 0})
    assert texts.fingerprint() != other.fingerprint()
    beyond = reader(tmp_path, "train.json", **NAMED, unlabelled="more.tsv", unlabelled_columns={"text": 2})
    with pytest.raises(DataError, match=r"more.tsv: source.unlabelled_columns.text is column 2, and the first line has columns 0 to 1"):
        rows(beyond, "more.tsv")
    (tmp_path / "pairs.tsv").write_text("a\tb\t1\n")
    (tmp_path / "more.jsonl").write_text('{"q": "c", "r": "d"}\n')
    columns = {"text": "q", "text_b": "r"}
    pairs = reader(tmp_path, "pairs.tsv", text=0, text_b=1, label=2, unlabelled="more.jsonl", unlabelled_columns=columns)
    assert rows(pairs, "more.jsonl") == [(1, b"c", b"d")]


def test_rows_that_cannot_be_split_are_rejected_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\t1\nb\nc\t1\td\n\ne\t0\n")
    assert [row[0] for row in rows(reader(tmp_path))] == [1, 5]
    assert rejected(reader(tmp_path), "train.tsv") == [(2, "wrong number of columns"), (3, "wrong number of columns")]
    lines = ['{"text": "a", "label": 0.0}', "{broken", '["a", 0]', '{"text": 3, "label": 0}', '{"text": "a", "label": 0.5}', "[" * 5000]
    (tmp_path / "train.jsonl").write_text("\n".join([*lines, '{"text": "a", "label": true}', '{"label": "z"}']))
    texts = reader(tmp_path, "train.jsonl", **NAMED)
    assert rows(texts, "train.jsonl") == [(1, b"a", b"0"), (8, None, b"z")]
    reasons = ["is no JSON", "is no JSON object", "text is no text"]
    assert [reason for _, reason in rejected(texts, "train.jsonl")] == [
        *reasons,
        "label is neither a name nor a whole number",
        "is no JSON",
        "label is neither a name nor a whole number",
    ]
    (tmp_path / "train.json").write_text('[["a", 0], ["b"], {"text": "c"}]')
    assert [reason for _, reason in rejected(reader(tmp_path, "train.json"), "train.json")] == [
        "wrong number of columns",
        "is no JSON array",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.json", b'[{"text": "a", "label": 0},\n{"text": ', r"train.json:2: is no JSON from here on"),
        ("train.json", b'[{"text": "a", "label": 0}\n{"text"', r"train.json:2: a comma or the array's end is missing"),
        ("train.json", b" \n", r"train.json: is empty"),
        ("train.tsv", b"", r"train.tsv: is empty"),
        ("train.tsv", b"a\tb\n", r"column 'text' is missing"),
        ("train.csv", b"a,b\n", r"train.csv: its ending says no known format; files of texts end in .tsv, .txt"),
        ("train.json.gz", b"no gzip", r"train.json.gz: cannot be read to its end"),
    ],
)
def test_files_that_cannot_be_read_say_so(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows(reader(tmp_path, name, **NAMED), name)


def test_a_column_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match=r"source.label is column 2, and the first line has columns 0 to 1"):
        rows(reader(tmp_path, label=2))


def test_files_lie_below_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\tb\n")
    for name in ("../train.tsv", str(tmp_path / "train.tsv")):
        with pytest.raises(DataError, match="no file below the data folder"):
            reader(tmp_path, name)
    with pytest.raises(DataError, match=r"dev.tsv does not exist; correct source.validation"):
        reader(tmp_path, validation="dev.tsv")


def test_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\t0\n")
    (tmp_path / "classes.txt").write_text("car\nhouse\n")
    texts = reader(tmp_path, class_names="classes.txt")
    assert texts.class_names() == ["car", "house"] and [path.name for path in texts.files()] == ["classes.txt", "test.tsv", "train.tsv"]
    (tmp_path / "classes.txt").write_text("car\ncar\n")
    with pytest.raises(DataError, match=r"classes.txt:2: 'car' names no class, or one that a line above has"):
        texts.class_names()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"test": None}, "needs `train` and `test`"),
        ({"validation": "train.tsv"}, "must be different files"),
        ({"text": "text"}, "all by position or all by name"),
        ({"label": 0}, "must be different columns"),
        ({"text": -1}, "greater than or equal to 0"),
        ({"label": True}, "valid"),
        ({"unlabelled": "more.json.gz"}, "more.json.gz has another format than train train.tsv: name its unlabelled_columns"),
        ({"unlabelled_columns": {"text": 1}}, "unlabelled_columns has no effect without reader: text and an unlabelled file"),
        (
            {"unlabelled": "m.tsv", "unlabelled_columns": {"text": 0, "text_b": 1}},
            "text_b where source has one, and none where it has none",
        ),
        (
            {"text_b": 2, "unlabelled": "m.tsv", "unlabelled_columns": {"text": 0, "text_b": 0}},
            "unlabelled_columns.text and unlabelled_columns.text_b must be different columns",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(source: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceConfig.model_validate({"reader": "text", "train": "train.tsv", "test": "test.tsv", **source})
