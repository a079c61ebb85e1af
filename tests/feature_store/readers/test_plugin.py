"""A reader of another package: it is named like ours, has keys of its own, and what is wrong with it is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from feature_store import plugins
from feature_store.config import SourceConfig
from feature_store.readers import any_reader
from feature_store.store.ingest import ingest
from feature_store.store.store import Store
from feature_store.tables.contracts import DataError
from tests.feature_store.plugin_packages import SESSIONS, install, write_sessions

Install = Callable[..., Path]


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the reader ``sessions``, some of its text replaced."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(plugins, "_registered", {})
    write_sessions(tmp_path / "log")

    def make(before: str = "", after: str = "") -> Path:
        assert before in SESSIONS
        return install(
            tmp_path / "site", "of_sessions", SESSIONS.replace(before, after), {"ctr_kd.readers": "sessions = of_sessions:Sessions"}
        )

    yield make
    sys.modules.pop("of_sessions", None)


def settings(**keys: object) -> SourceConfig:
    values = {"reader": "sessions", "ending": "tsv", **keys}
    return SourceConfig.reads(values).model_validate(values)


def test_its_log_is_stored_as_that_of_any_reader(sessions: Install, tmp_path: Path) -> None:
    sessions()
    store = Store(tmp_path / "store")
    done = ingest(settings(), tmp_path / "log", store, tmp_path / "failed")
    assert done.rows_stored == 60
    assert store.ledger is not None and list(store.ledger.files) == ["one.tsv"]
    assert ingest(settings(), tmp_path / "log", store, tmp_path / "failed").rows_stored == 0


def test_what_decides_its_rows_is_its_settings_and_its_source(sessions: Install, tmp_path: Path) -> None:
    module = sessions()
    first = settings().log()
    assert first == {"reader": "sessions", "ending": "tsv", "plugin": first["plugin"]}
    before = any_reader(settings(), tmp_path / "log").fingerprint()
    assert any_reader(settings(), tmp_path / "log").fingerprint() == before
    module.write_text(module.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    assert settings().log()["plugin"] != first["plugin"]
    assert any_reader(settings(), tmp_path / "log").fingerprint() != before


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("return log_contract(has_impressions=False)", "return 3", "the reader 'sessions' gives a int in place of a LogContract"),
        ("yield from read_table", "yield 3; yield from read_table", "the reader 'sessions' gives a int in place of a RawBatch"),
        ("yield from read_table", "1 / 0; yield from read_table", "the reader 'sessions' cannot read: ZeroDivisionError: division by zero"),
        ("return data_files", "return data_folders", "the reader 'sessions' cannot name its files: NameError: name 'data_folders' is not"),
        ("self.config, self.data", "self.config, self.data, more", "the reader 'sessions' cannot be made: ValueError: not enough values"),
        ('"who"', '"whom"', "whom"),
    ],
)
def test_what_goes_wrong_in_it_is_one_line_and_leaves_the_store_as_it_was(
    sessions: Install, tmp_path: Path, before: str, after: str, said: str
) -> None:
    sessions(before, after)
    with pytest.raises(DataError) as error:
        ingest(settings(), tmp_path / "log", Store(tmp_path / "store"), tmp_path / "failed")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert Store(tmp_path / "store").ledger is None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "def contract",
            "def contracts",
            "the reader 'sessions' (of_sessions.Sessions) has no method 'contract'; it needs files, contract, read",
        ),
        ("class Settings(SourceConfig):", "class Settings:", "the reader 'sessions' has settings that are no class on top of SourceConfig"),
    ],
)
def test_what_is_no_reader_is_refused(sessions: Install, before: str, after: str, said: str) -> None:
    sessions(before, after)
    with pytest.raises(ValidationError) as error:
        settings()
    assert said in str(error.value)
