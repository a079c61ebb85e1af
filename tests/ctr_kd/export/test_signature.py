"""signature.json: what is written is what earlier releases wrote, and what they wrote is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctr_kd.export.signature import ClickSignature, TextSignature, read_signature
from tests.signatures import CLICKS, click_signature

OF_CLICKS = ("gap_buckets", "user_attributes", "negative_sampling_rate", "columns")
TEXTS = {name: value for name, value in CLICKS.items() if name not in OF_CLICKS}
TEXTS |= {
    "classes": ["汽车", "label"],
    "class_columns": ["汽车", "class label"],
    "packages": ["jieba"],
    "columns": {"required": ["text"], "optional": [], "answer": {"label": "string"}},
}


@pytest.mark.parametrize(("content", "kind"), [(CLICKS, ClickSignature), (TEXTS, TextSignature)])
def test_it_is_written_as_it_was_read_byte_for_byte(content: dict, kind: type, tmp_path: Path) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (tmp_path / "signature.json").write_text(text, encoding="utf-8")
    found = read_signature(tmp_path)
    assert type(found) is kind
    found.write(tmp_path)
    assert (tmp_path / "signature.json").read_text(encoding="utf-8") == text


def test_keys_that_an_older_release_did_not_write_may_be_absent() -> None:
    old = {name: value for name, value in CLICKS.items() if name not in ("user_attributes", "negative_sampling_rate")}
    assert ClickSignature.from_json(old) == click_signature()


def test_what_is_no_signature_is_named() -> None:
    with pytest.raises(ValueError, match=r"^columns\.answer: Field required$"):
        click_signature(columns={"required": [], "optional": []})
