"""Names of a configuration that lie below the data folder or inside an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from feature_store.tables.contracts import DataError
from feature_store.tables.named_files import named_path


def test_a_name_lies_below_the_data_folder_unless_it_says_package(tmp_path: Path) -> None:
    assert named_path("bert/vocab.txt", tmp_path) == tmp_path / "bert" / "vocab.txt"
    assert named_path("bert/vocab.txt", None) == Path("bert/vocab.txt")


def test_a_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_with_a_bert"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model" / "vocab.txt").write_text("word")
    monkeypatch.syspath_prepend(tmp_path)
    assert named_path("package:package_with_a_bert/model/vocab.txt", Path("data")).read_text() == "word"
    assert "package_with_a_bert" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package_here/model", "no_such_package_here, which is not installed here: install it with pip"),
        ("package:", "no path inside a package"),
        ("package:feature_store/../secrets", "no path inside a package"),
        ("package:feature_store.sql/x", "no path inside a package"),
        ("package:__main__/model", "__main__, which is not installed here"),
        ("package:this/model", "this, which is not installed here"),  # a module, which holds no files
    ],
)
def test_what_is_no_package_says_so_in_one_line(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        named_path(name, None)
    assert "\n" not in str(error.value)
