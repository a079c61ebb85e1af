from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from feature_store.text.audit import audit_texts, normalise, text_keys


def table(rows: list[tuple]) -> pa.Table:
    """Rows of (split, label, text) or (split, label, text, text_b)."""
    cells = [(*row, None)[:4] for row in rows]
    names = ["split", "label", "text", "text_b"]
    return pa.table({name: pa.array([row[place] for row in cells], pa.string()) for place, name in enumerate(names)})


def test_counts_by_hand() -> None:
    rows = [
        ("train", "x", "one"),
        ("train", "x", "one"),
        ("train", "y", "one"),
        ("train", "x", "One!"),
        ("train", "y", "two"),
        ("validation", "x", "three"),
        ("test", "x", "ONE"),
        ("test", "y", "one"),
        ("test", "z", "two"),
        ("test", "x", "three"),
        ("test", "x", "four"),
        ("unlabelled", None, "four"),
        ("unlabelled", None, "five"),
    ]
    report, leaked = audit_texts(table(rows))
    assert report["rows"] == {"train": 5, "validation": 1, "test": 5, "unlabelled": 2, "train+validation": 6}
    assert report["exact"]["within"]["train"] == {"duplicates": 2, "identical": 1, "conflicting_texts": 1, "conflicting_rows": 3}
    assert report["normalised"]["within"]["train"] == {"duplicates": 3, "identical": 2, "conflicting_texts": 1, "conflicting_rows": 4}
    assert report["exact"]["between"]["train - test"] == {"rows": 2, "texts": 2, "conflicting": 1}
    assert report["normalised"]["between"]["train - test"] == {"rows": 3, "texts": 2, "conflicting": 1}
    assert report["normalised"]["between"]["train+validation - test"] == {"rows": 4, "texts": 3, "conflicting": 1}
    assert report["exact"]["between"]["unlabelled - test"] == {"rows": 1, "texts": 1, "conflicting": 0}
    assert leaked.tolist() == [False] * 6 + [True, True, True, True, False] + [True, False]


def test_pairs_are_the_same_both_ways_round() -> None:
    rows = table([("train", "1", "a b", "c"), ("test", "1", "c", "A B"), ("test", "1", "ab", "d"), ("test", "0", "abc", "")])
    assert audit_texts(rows)[1].tolist() == [False, True, False, False]
    assert audit_texts(rows)[0]["exact"]["between"]["train - test"]["rows"] == 0


def test_texts_of_signs_alone_differ() -> None:
    assert normalise("！？") == "!?" and normalise(" … ") == "..." and normalise("a…") == normalise("A")


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "validation", "test"]), st.sampled_from("xy"), st.sampled_from(["a", "A", "b", "c?", "c"]))
    )
)
def test_a_plain_second_count(rows: list[tuple[str, str, str]]) -> None:
    report, leaked = audit_texts(table(rows))
    for kind, key in (("exact", str), ("normalised", normalise)):
        for split, counts in report[kind]["within"].items():
            found = [(key(text), label) for name, label, text in rows if name in split.split("+")]
            assert counts["identical"] == sum(count - 1 for count in Counter(found).values())
            assert counts["duplicates"] == len(found) - len({text for text, _ in found})
    seen = {name: {normalise(text) for split, _, text in rows if split == name} for name in ("train", "validation")}
    expected = {"train": set(), "validation": seen["train"], "test": seen["train"] | seen["validation"]}
    assert leaked.tolist() == [normalise(text) in expected[split] for split, _, text in rows]
    assert text_keys(table(rows)) == [normalise(text) for *_, text in rows]
