"""Paths on the command line, and configurations by their names."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from pipelines.cli.options import Configuration, Place


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


def test_a_line_says_which_configuration_is_read_where_it_is_none_of_this_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    context = click.Context(click.Command("run"), obj={"log_format": "json"})

    def said(conf: str) -> list[str]:
        assert Configuration().convert(conf, None, context) == Path(conf)  # as it was typed: messages name it so
        return [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]

    assert [line.split("/")[0] for line in said("simulated.yaml")] == ["simulated.yaml is no file here; read from "]
    assert said("mine.yaml") == []
    (tmp_path / "simulated.yaml").write_text("")
    assert said("simulated.yaml") == []
    monkeypatch.setenv("RANK", "1")
    for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert said("globo.yaml") == []  # the first of several processes says it
