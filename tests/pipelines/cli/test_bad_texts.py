"""Bad texts, labels, vocabularies and word vectors through the real program: its exit code, its one line, and a store as it was."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr_kd.data.texts import TextAssembly
from pipelines.cli import main as cli
from pipelines.tracking.tracker import Tracker

CONFIGURATION = """
source: {reader: text, train: train.tsv, test: test.tsv, validation_share: 0.3}
tokens: {teacher: {kind: characters, min_count: 1, max_length: 64}, student: {kind: words, min_count: 1, max_length: 64}}
"""
GOOD = [(f"标题 {n} title", "ab"[n % 2]) for n in range(40)]


class Program:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data, self.workspace, self.conf, self.capsys = folder / "data", folder / "workspace", folder / "texts.yaml", capsys
        self.data.mkdir()
        self.conf.write_text(CONFIGURATION)
        self.write("train.tsv", GOOD)
        self.write("test.tsv", [("测试 test", "a")])

    def write(self, name: str, rows: list[tuple[str, str]], more: bytes = b"") -> None:
        (self.data / name).write_bytes("".join(f"{text}\t{label}\n" for text, label in rows).encode() + more)

    def __call__(self, *settings: str) -> tuple[int, str]:
        """Exit code of an ingestion, and its last line."""
        self.capsys.readouterr()
        arguments = [part for setting in settings for part in ("--set", setting)]
        with pytest.raises(SystemExit) as end:
            cli.main(["ingest", str(self.conf), "--workspace", str(self.workspace), "--data", str(self.data), *arguments])
        said = self.capsys.readouterr()
        return int(end.value.code or 0), (said.err.strip() or said.out.strip()).splitlines()[-1]

    def config(self, *settings: str) -> str:
        """What ``ctr-kd config`` prints."""
        self.capsys.readouterr()
        arguments = [part for setting in settings for part in ("--set", setting)]
        with pytest.raises(SystemExit):
            cli.main(["config", str(self.conf), "--workspace", str(self.workspace), *arguments])
        return self.capsys.readouterr().out

    def store(self) -> dict[str, bytes]:
        root = self.workspace / "store"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def assembly(self, view: str) -> TextAssembly:
        newest = max((self.workspace / "artifacts" / "ingest").glob("*/_manifest.json"), key=lambda path: path.stat().st_mtime_ns)
        return TextAssembly(newest.parent, view)


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    return Program(tmp_path, capsys)


def add(*rows: tuple[str, str], more: bytes = b"") -> Callable[[Program], None]:
    return lambda program: program.write("train.tsv", [*GOOD, *rows], more)


HALF = "半个 \ud83d".encode(errors="surrogatepass") + b"\ta\n"


@pytest.mark.parametrize(
    ("make", "settings", "expected"),
    [
        (add(("", "a"), (" \u3000", "b")), (), "2 of 43 rows (4.65%) break the contract"),
        (add(("", "a"), (" \u3000", "b")), (), "text is empty (2 rows, first at train.tsv:41)"),
        (add(more=HALF * 2), (), "text is not UTF-8 (2 rows, first at train.tsv:41)"),
        (add(("x\0y", "a")), (), "text holds a NUL character (1 rows, first at train.tsv:41)"),
        (
            lambda program: program.write("test.tsv", [("测试", "z"), ("测试", "a")]),
            (),
            "label is no known class (1 rows, first at test.tsv:1)",
        ),
        (lambda program: program.write("train.tsv", [(text, "a") for text, _ in GOOD]), (), "all rows have the label 'a'"),
        (
            lambda program: (program.data / "vocab.txt").write_text("[PAD]\n标\n题\n"),
            ("tokens.teacher={kind: wordpiece, vocabulary: vocab.txt}",),
            "vocab.txt: the vocabulary has no [UNK]",
        ),
        (
            lambda program: (program.data / "vectors.txt").write_text("标题 1 2\ntitle 3 4\n"),
            ("tokens.student.vectors=vectors.txt",),
            "vectors.txt: its first line is '标题 1 2', not the numbers of words and dimensions, as in '352217 300'",
        ),
        (
            lambda program: (program.data / "vectors.txt").write_text("2 3\n标题 1 2\ntitle 3 4\n"),
            ("tokens.student.vectors=vectors.txt",),
            "vectors.txt:2: holds 2 numbers and the first line tells 3 dimensions",
        ),
    ],
    ids=["empty", "empty line", "half a surrogate pair", "NUL", "unknown label", "one class", "no UNK", "no header", "other dimensions"],
)
def test_it_is_one_line_and_the_texts_stay_as_they_were(
    program: Program, make: Callable[[Program], None], settings: tuple[str, ...], expected: str
) -> None:
    assert program()[0] == 0
    before = {name: content for name, content in program.store().items() if name.startswith("texts/")}
    make(program)
    code, line = program(*settings)
    assert code == 3 and line.startswith("ctr-kd: ") and expected in line
    assert {name: content for name, content in program.store().items() if name.startswith("texts/")} == before


def test_within_the_limit_bad_rows_are_put_aside_and_strange_ones_are_read(program: Program) -> None:
    """Emoji and 10,000 characters are texts; both readers keep the beginning of a long one."""
    long = "很长的标题" * 2000
    program.write("train.tsv", [*GOOD, ("", "a"), ("x\0y", "a"), ("😀 👨\u200d👩\u200d👧 标题", "a"), (long, "b")], HALF)
    program.write("test.tsv", [("😀", "a"), ("测试", "z"), (long[:-1], "b")])
    code, line = program("source.bad_rows_limit=0.2")
    assert code == 0, line
    rows = pq.read_table(program.workspace / "store" / "quarantine" / "quarantine.parquet").to_pylist()
    assert [(row["file"], row["line"], row["reason"]) for row in rows] == [
        ("test.tsv", 2, "label is no known class"),
        ("train.tsv", 41, "text is empty"),
        ("train.tsv", 42, "text holds a NUL character"),
        ("train.tsv", 45, "text is not UTF-8"),
    ]
    for view in ("teacher", "student"):
        samples = program.assembly(view).samples("test")
        length = samples.a.end - samples.a.start
        assert len(samples) == 2 and length[0] == 1 and length[1] == 64


def test_word_vectors_reach_the_student_through_the_store(program: Program) -> None:
    (program.data / "vectors.txt").write_text("3 2\n标题 1 2\ntitle 3 4\nnever 5 6\n")
    code, line = program("tokens.student.vectors=vectors.txt")
    assert code == 0, line
    assembly = program.assembly("student")
    vectors = assembly.token_vectors()
    assert vectors is not None and vectors[assembly.words().index("title")].tolist() == [3, 4]
    assert np.isnan(vectors).all(1).sum() == len(vectors) - 2


def test_config_tells_the_length_that_auto_came_to(program: Program) -> None:
    auto = ("tokens.teacher.max_length=auto", "tokens.student.max_length=auto")
    assert "# here" not in program.config(*auto)
    assert program(*auto)[0] == 0
    told = [line.strip() for line in program.config(*auto).splitlines() if "max_length: auto" in line]
    assert told == ["max_length: auto  # here 9", "max_length: auto  # here 3"]  # 标题 10 title; as words 标题, 10 and title
    assert program(*auto, "tokens.student.kind=auto")[0] == 0
    assert "kind: auto  # here words" in program.config(*auto, "tokens.student.kind=auto")
