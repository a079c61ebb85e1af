"""Configurations that come with the project, where there is no file of that name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.config.run import load
from pipelines.config.shipped import shipped_file, shipped_names
from pipelines.errors import ConfigError
from tests.programs import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_they_are_those_of_the_checkout() -> None:
    assert shipped_names() == sorted(path.stem for path in (ROOT / "conf").iterdir())


@pytest.mark.parametrize("conf", ["conf/globo.yaml", "globo.yaml", "globo", "./globo.yaml"])
def test_a_name_leads_to_the_file(conf: str) -> None:
    file = shipped_file(Path(conf))
    assert file is not None and file.read_bytes() == (ROOT / "conf" / "globo.yaml").read_bytes()
    assert load(conf) == load(ROOT / "conf" / "globo.yaml")


def test_a_file_of_that_name_goes_first(elsewhere: Path) -> None:
    (elsewhere / "globo.yaml").write_text("source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n", encoding="utf-8")
    assert load("globo.yaml").source.reader == "simulated"
    (elsewhere / "simulated").mkdir()  # a workspace may well be called as its configuration is
    assert load("simulated").name == "simulated"


@pytest.mark.parametrize(
    "conf", ["mine/globo.yaml", "/globo.yaml", "conf/globo", "globo.yml", "Globo", "../conf/globo.yaml", "conf/globo.yaml/x"]
)
def test_a_file_that_is_missing_is_not_replaced_by_another(conf: str) -> None:
    line = f"{conf}: no such file; with the project come afqmc, globo, mind, ml100k, reviews, s3rec, simulated, tnews, tnews5, trec"
    with pytest.raises(ConfigError, match=re.escape(line)):
        load(conf)
