import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feature_store.features.summary import ClickSummary
from feature_store.text.summary import TextSummary
from tests.summaries import CLICKS, TEXTS, click_summary, text_summary

SAMPLED = {
    "sampled": True,
    "per_click": 4,
    "by": "popularity",
    "window": "PT1H",
    "seed": 11,
    "short": 3,
    "support": {"counts": ["0", "1"], "clicked_share": [0.0, 1.0], "sampled_share": None, "auc_of_count_zero": None},
}
VECTORS = {"dimensions": 3, "exact": 1, "folded": 0, "missing": 2, "file_words": 9}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ClickSummary, CLICKS),
        (ClickSummary, CLICKS | {"candidates": SAMPLED}),
        (ClickSummary, {name: value for name, value in CLICKS.items() if name not in ("user_attributes", "negative_sampling_rate")}),
        (ClickSummary, CLICKS | {"as_of": "2024-01-14T23:59:59.000001+00:00", "a key of another release": [1]}),
        (TextSummary, TEXTS),
        (TextSummary, TEXTS | {"views": {"student": {**TEXTS["views"]["student"], "vectors": VECTORS}}}),
    ],
)
def test_what_was_written_is_written_again_byte_for_byte(tmp_path: Path, kind: type, content: dict) -> None:
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    before = file.read_bytes()
    kind.read(tmp_path).write(tmp_path)
    assert file.read_bytes() == before


def test_older_summaries_lack_keys_that_came_later() -> None:
    older = {name: value for name, value in CLICKS.items() if name not in ("user_attributes", "negative_sampling_rate")}
    summary = ClickSummary.from_json(older)
    assert summary.user_attributes == [] and summary.negative_sampling_rate is None


def test_times_are_times_in_utc() -> None:
    assert click_summary().split.train_until == datetime(2024, 1, 2, tzinfo=UTC)
    assert click_summary().as_of.utcoffset() == timedelta(0) and text_summary().views["student"].vectors is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({**TEXTS, "classes": "many"}), "classes: Input should be a valid integer"),
        (json.dumps({**TEXTS, "views": {"teacher": {}}}), "views.teacher.tokens: Field required"),
        ("[]", "Input should be a valid dictionary"),
        ("{", "Expecting property name"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        TextSummary.read(tmp_path)
    assert f"{tmp_path / 'summary.json'} is damaged" in str(error.value) and "\n" not in str(error.value)
