"""A reader of another package on the command line: what a configuration may say, and when its source has changed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feature_store import plugins
from pipelines.cli import main as cli
from pipelines.config.run import describe, load
from pipelines.errors import ConfigError
from pipelines.tracking.tracker import Tracker
from tests.feature_store.plugin_packages import SESSIONS, install, write_sessions

TEXT = "source: {reader: sessions, ending: tsv}\nsplit: {fractions: [0.6, 0.2, 0.2]}\nstatistics: {auto: false}\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the reader ``sessions``, which is installed; a log of its layout, and a configuration."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(plugins, "_registered", {})
    write_sessions(tmp_path / "log")
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    yield install(tmp_path / "site", "of_sessions", SESSIONS, {"ctr_kd.readers": "sessions = of_sessions:Sessions"})
    sys.modules.pop("of_sessions", None)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs a command on the configuration; returns its exit code and what it said."""
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def run(name: str, *more: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([name, str(tmp_path / "mine.yaml"), *more])
        return int(end.value.code or 0), "".join(capsys.readouterr())

    return run


def test_its_log_is_ingested_and_another_source_does_not_replace_it_unasked(
    module: Path, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    workspace, data = ("--workspace", str(tmp_path / "workspace")), ("--data", str(tmp_path / "log"))
    code, said = command("ingest", *workspace, *data)
    assert code == 0 and "60 rows stored, 0 in quarantine" in said, said
    assert "up to date" in command("ingest", *workspace)[1]
    module.write_text(module.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    code, said = command("ingest", *workspace)
    assert code == 2 and "holds the log of configuration mine (plugin: " in said and "`ctr-kd ingest --force` replace what is there" in said
    code, said = command("ingest", *workspace, *data, "--force")
    assert code == 0 and "60 rows stored" in said, said


def test_its_settings_are_checked_and_printed(module: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    printed = describe(load(file))
    assert "  # ending of the files\n  ending: tsv\n" in printed
    (tmp_path / "printed.yaml").write_text(printed, encoding="utf-8")
    assert load(tmp_path / "printed.yaml").source == load(file).source
    for source, expected in {
        "{reader: sessions, endign: tsv}": "source.endign: unknown key; did you mean 'ending'?",
        "{reader: session, ending: tsv}": "source.reader: there is no reader 'session'; there are simulated, globo, mind, movielens, s3",
        "{reader: tabular, ending: tsv}": "source.ending: unknown key; ",
    }.items():
        file.write_text(f"source: {source}\nsplit: {{fractions: [0.6, 0.2, 0.2]}}\n", encoding="utf-8")
        with pytest.raises(ConfigError) as error:
            load(file)
        assert expected in str(error.value)
