from pathlib import Path

import pytest

from feature_store.config import SourceConfig
from feature_store.readers.globo import GloboReader
from feature_store.tables.contracts import DataError

HEADER = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,"
    "click_environment,click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"
)


def reader(data: Path) -> GloboReader:
    return GloboReader(SourceConfig(reader="globo"), data)


def test_clicks_with_their_context_and_nothing_of_the_session(tmp_path: Path) -> None:
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "clicks_hour_000.csv").write_text(HEADER + "0,15,1506825423000,2,157541,1506826828020,4,3,20,1,20,2\n")
    (tmp_path / "clicks" / "notes.csv").write_text("x\n")
    log = reader(tmp_path)
    (batch,) = log.read(log.files())
    assert batch.kind == "events" and batch.file == "clicks/clicks_hour_000.csv" and batch.lines.tolist() == [2]
    assert batch.table.to_pylist() == [
        {
            "user_id": b"0",
            "item_id": b"157541",
            "timestamp": b"1506826828020",
            "environment": b"4",
            "device_group": b"3",
            "os": b"20",
            "country": b"1",
            "region": b"20",
            "referrer": b"2",
        }
    ]
    contract = log.contract()
    assert contract.has_impressions is False
    assert contract.context.categorical == ["environment", "device_group", "os", "country", "region", "referrer"]


def test_no_files_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no clicks/clicks_hour_"):
        reader(tmp_path).files()
    with pytest.raises(DataError, match="does not exist"):
        reader(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        reader(tmp_path / "file")
    with pytest.raises(DataError, match="needs a data folder"):
        GloboReader(SourceConfig(reader="globo"), None)


@pytest.mark.real_data("globo")
def test_the_real_log(real_data: Path) -> None:
    log = reader(real_data)
    assert len(log.files()) == 310
    (batch,) = log.read(log.files()[:1])
    assert len(batch.table) > 1000 and not batch.rejected
