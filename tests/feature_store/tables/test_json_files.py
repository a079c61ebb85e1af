import hashlib
import json
from pathlib import Path

import pytest

from feature_store.tables.json_files import canonical_json, digest_of, json_text, load_json, write_json, write_text


def test_the_digest_is_that_of_the_canonical_text_whatever_the_order_of_keys() -> None:
    value = {"ü": [1, None, 0.5], "a": {"y": True, "b": "x"}}
    assert canonical_json(value) == '{"a":{"b":"x","y":true},"ü":[1,null,0.5]}'
    assert digest_of(value) == digest_of(dict(reversed(value.items()))) == hashlib.sha256(canonical_json(value).encode()).hexdigest()
    assert digest_of(value) != digest_of({**value, "a": {"y": True, "b": "z"}})


def test_a_file_reads_back_and_its_text_is_stable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "ä", "a": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "b": "ä",\n "a": 1\n}\n' == json_text({"b": "ä", "a": 1})
    assert load_json(tmp_path / "a.json") == {"b": "ä", "a": 1}
    assert json_text({"b": 1, "a": 2}, sort_keys=True) == '{\n "a": 2,\n "b": 1\n}\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_an_error_and_leaves_the_file_as_it_was(tmp_path: Path, number: float) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    for write in (canonical_json, digest_of, lambda value: write_json(tmp_path / "a.json", value)):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write({"a": number})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"
