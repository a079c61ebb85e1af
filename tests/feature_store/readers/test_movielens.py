from pathlib import Path

import pytest

from feature_store.config import SourceConfig
from feature_store.readers.movielens import GENRES, MovieLensReader
from feature_store.tables.contracts import ContractCheck, DataError


def write(data: Path, files: dict[str, str], **settings: float) -> MovieLensReader:
    for name, text in files.items():
        (data / name).write_text(text, encoding="latin-1" if name[-4:] != "item" or name == "u.item" else "utf-8")
    return MovieLensReader(SourceConfig(reader="movielens", **settings), data)


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES)


LAYOUTS = {
    "ml-1m": {
        "ratings.dat": "1::10::4::978300760\n2::10::3::978302109\n",
        "movies.dat": "10::Café Story (1995)::Animation|Comedy\n",
        "users.dat": "1::F::25::10::48067\n2::M::1::16::70072\n",
    },
    "ml-100k": {
        "u.data": "1\t10\t4\t978300760\n2\t10\t3\t978302109\n",
        "u.item": f"10|Café Story (1995)|01-Jan-1995||http://x|{flags('Animation', 'Comedy')}\n",
        "u.user": "1|24|F|10|85711\n2|7|M|16|94043\n",
    },
    "typed headers": {
        "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t978300760\n2\t10\t3.5\t978302109\n",
        "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tCafé Story (1995)\t1995\tAnimation Comedy\n",
        "ml.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tF\t10\t85711\n2\t9\tM\t16\t9\n",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_tables(tmp_path: Path, layout: str) -> None:
    log = write(tmp_path, LAYOUTS[layout])
    check = ContractCheck(log.contract())
    tables = {}
    for batch in log.read(log.files()):
        tables[batch.kind], rejected = check.split(batch)
        assert not rejected
    events = [(row["user_id"], row["item_id"], row["clicked"], row["timestamp"].year) for row in tables["events"].to_pylist()]
    assert events == [(1, 10, 1, 2000), (2, 10, 0, 2000)]
    (item,) = tables["items"].drop_columns(["source", "line"]).to_pylist()
    assert item == {"item_id": 10, "release_year": "1995", "genre": "Animation\x1fComedy", "title": "Café Story (1995)"}
    users = tables["users"].drop_columns(["source", "line"]).to_pylist()
    assert users == [
        {"user_id": 1, "age": "20", "gender": "F", "occupation": "10"},
        {"user_id": 2, "age": "0", "gender": "M", "occupation": "16"},
    ]
    assert log.contract().has_impressions and log.contract().user_attributes == ["age", "gender", "occupation"]


def test_the_rating_that_clicks_is_a_setting(tmp_path: Path) -> None:
    log = write(tmp_path, LAYOUTS["ml-1m"], click_rating=3)
    batch = next(iter(log.read(log.files())))
    assert batch.table["clicked"].to_pylist() == [True, True]
    assert log.fingerprint() != write(tmp_path, {}).fingerprint()


def test_a_rating_that_is_no_number_is_rejected(tmp_path: Path) -> None:
    log = write(tmp_path, {"u.data": "1\t10\tgood\t978300760\n2\t10\t5\t978300760\n"})
    good, rejected = ContractCheck(log.contract()).split(next(iter(log.read(log.files()))))
    assert len(good) == 1 and rejected[0].reason == "clicked is not 0 or 1" and "good" in rejected[0].text
    assert log.contract().item_attributes == [] == log.contract().user_attributes


def test_a_folder_without_ratings_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no ratings.dat, u.data or NAME.inter"):
        write(tmp_path, {}).files()
    with pytest.raises(DataError, match=r"2 .inter files"):
        write(tmp_path, {"a.inter": "x", "b.inter": "x"}).files()


@pytest.mark.real_data("ml-100k")
def test_the_real_log(real_data: Path) -> None:
    log = MovieLensReader(SourceConfig(reader="movielens"), real_data)
    check = ContractCheck(log.contract())
    tables = {batch.kind: check.split(batch)[0] for batch in log.read(log.files())}
    assert len(tables["events"]) == 100_000 and sum(tables["events"]["clicked"].to_pylist()) == 55_375
    assert tables["items"]["genre"].null_count == 0 and len(tables["users"]) == 943
