"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from pipelines.cli.options import Place


@pytest.mark.parametrize("given", ["~", "~root/ws", "s3:", "file:ws", "a:b/c"])
def test_a_folder_of_this_place_is_no_home_and_no_url(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Place().convert(given, None, None) == tmp_path / given


def test_other_paths_stay_as_they_are_written() -> None:
    for given in ("workspace", "a b/[x]*?#", ".", "/a/~", "clicked=1/ws"):
        assert Place().convert(given, None, None) == Path(given)


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(click.BadParameter, match=r"'b\\udcff' is not UTF-8; rename it"):
        Place().convert("b\udcff", None, None)
