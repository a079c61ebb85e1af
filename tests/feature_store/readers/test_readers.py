import re
from pathlib import Path

import pytest

from feature_store.config import READER_NAMES, SourceConfig
from feature_store.readers import READERS
from feature_store.readers.base import data_files
from feature_store.tables.contracts import DataFolderError


def test_every_reader_that_a_configuration_may_name_exists() -> None:
    assert set(READERS) == set(READER_NAMES)


FILES = {
    "globo": ("clicks/clicks_hour_000.csv", {}),
    "mind": ("behaviors.tsv", {}),
    "movielens": ("ratings.dat", {}),
    "s3rec": ("Toys.txt", {"name": "Toys"}),
    "tabular": ("log.csv", {"events": {"path": "*.csv", "user": "u", "item": "i", "time": "t"}}),
    "text": ("train.tsv", {"train": "train.tsv", "test": "test.tsv"}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_link_in_the_data_is_followed_and_one_that_leads_nowhere_is_named(tmp_path: Path, kind: str) -> None:
    """It is the user's own data, whatever reads it."""
    name, settings = FILES[kind]
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True)
    (tmp_path / "data" / "test.tsv").touch()
    file.symlink_to(tmp_path / "elsewhere")
    config = SourceConfig.model_validate({"reader": kind, **settings})
    with pytest.raises(DataFolderError, match=re.escape(f"{file}: is a link that leads nowhere")):
        READERS[kind](config, tmp_path / "data").files()
    (tmp_path / "elsewhere").write_text("")
    assert file in READERS[kind](config, tmp_path / "data").files()


def test_linked_folders_are_followed_everywhere_alike(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("data/own/a.csv", "elsewhere/day/b.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere")
    (data / "own" / "circle").symlink_to(data)
    found = {
        pattern: [path.relative_to(data).as_posix() for path in data_files(data, pattern)] for pattern in ("**/*.csv", "linked/*/*.csv")
    }
    assert found == {"**/*.csv": ["linked/day/b.csv", "own/a.csv"], "linked/*/*.csv": ["linked/day/b.csv"]}
