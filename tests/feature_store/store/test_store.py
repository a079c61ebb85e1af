import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feature_store.store import store as store_module
from feature_store.store.manifests import CommitRecord, PartitionManifest, StoredLogContract, read_sealed, write_sealed
from feature_store.store.store import Store, Transaction, finish_commit
from feature_store.tables.contracts import DataError, NotIngested, log_contract
from feature_store.tables.files import sha256_of


def write_partition(transaction: Transaction, date: str, text: str) -> None:
    folder = transaction.new(f"events/date={date}")
    (folder / "events.parquet").write_text(text)
    times = dict.fromkeys(("min_timestamp", "max_timestamp", "max_ingested_at"), f"{date}T12:00:00+00:00")
    digests = {"events.parquet": sha256_of(folder / "events.parquet")}
    manifest = PartitionManifest.from_json({"rows": 1, "schema": "", "inputs": {}, "sha256": digests, **times})
    write_sealed(folder / "_manifest.json", manifest)


def contract(user_id: str) -> StoredLogContract:
    log = log_contract(has_impressions=False).to_json()
    return StoredLogContract.from_json({**log, "user_id": user_id, "item_id": "int64", "request_id": "int64"})


def write_store(root: Path, **partitions: str) -> Store:
    """Partitions by day of January 2024."""
    store = Store(root)
    with Transaction(store) as transaction:
        for day, text in partitions.items():
            write_partition(transaction, f"2024-01-{day[1:]}", text)
        transaction.write("_contract.json", contract("int64"))
        transaction.commit()
    return store


def tree(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.event_files() == [] and store.items_file() is None and store.ledger is None and store.quarantined_rows() == 0
    assert store.newest_event() is None
    for ask in (lambda: store.contract, store.digest):
        with pytest.raises(NotIngested, match=r"nothing was ingested yet|holds no event"):
            ask()


def test_partitions_up_to_a_date(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a", d02="b", d03="c")
    assert store.dates(datetime(2024, 1, 2, 5, tzinfo=UTC)) == ["2024-01-01", "2024-01-02"]
    assert [path.parent.name for path in store.event_files()] == ["date=2024-01-01", "date=2024-01-02", "date=2024-01-03"]
    assert store.newest_event() == datetime(2024, 1, 3, 12, tzinfo=UTC)


def test_a_folder_without_manifest_is_never_read(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a")
    (tmp_path / "events" / "date=2024-01-02").mkdir()
    (tmp_path / "items").mkdir()
    assert store.dates() == ["2024-01-01"] and store.items_file() is None


def test_the_digest_covers_what_a_reader_sees(tmp_path: Path) -> None:
    one, two = write_store(tmp_path / "one", d01="a", d02="b"), write_store(tmp_path / "two", d01="a", d02="c")
    assert one.digest() != two.digest()
    until = datetime(2024, 1, 1, 23, tzinfo=UTC)
    assert one.digest(until) == two.digest(until) != one.digest()


def test_verify_names_the_damaged_file(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a", d02="b")
    store.verify()
    path = store.event_files()[1]
    path.write_text("B")
    with pytest.raises(DataError, match=r"date=2024-01-02/events.parquet: its sha256 is not that of its manifest"):
        store.verify()
    store.verify(datetime(2024, 1, 1, tzinfo=UTC))
    path.unlink()
    with pytest.raises(DataError, match="is missing, though its manifest lists it"):
        store.verify()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a")
    (tmp_path / "events" / "date=2024-01-01" / "_manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"_manifest.json: is damaged"):
        store.digest()


def test_a_flipped_bit_anywhere_in_a_manifest_is_noticed_unless_it_changes_nothing(tmp_path: Path) -> None:
    """Its numbers are believed: the newest time decides where the split lies."""
    path = tmp_path / "_manifest.json"
    times = dict.fromkeys(("min_timestamp", "max_timestamp", "max_ingested_at"), "2024-01-01T12:00:00+00:00")
    content = PartitionManifest.from_json({"rows": 12, "schema": "c0de", "inputs": {"ä": "d1"}, "sha256": {"e": "d2"}, **times})
    write_sealed(path, content)
    held = path.read_bytes()
    for place in range(8 * len(held)):
        changed = bytearray(held)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            assert read_sealed(path, PartitionManifest) == content  # white space of another kind
        except DataError as error:
            assert "is damaged" in str(error)
    path.write_text('{"rows": 12}')
    with pytest.raises(DataError, match="it has no seal"):
        read_sealed(path, PartitionManifest)


def test_leaving_without_commit_changes_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a")
    before = tree(tmp_path)
    with pytest.raises(RuntimeError), Transaction(store) as transaction:
        write_partition(transaction, "2024-01-01", "A")
        transaction.remove(["events/date=2024-01-01"])
        raise RuntimeError
    assert tree(tmp_path) == before


def test_scratch_of_a_killed_run_is_cleared(tmp_path: Path) -> None:
    store = write_store(tmp_path, d01="a")
    for name in ("_next/events/date=2024-01-05", "_staging/rows", "_old/events"):
        (tmp_path / name).mkdir(parents=True)
    with Transaction(store):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_contract.json", "events"]


@pytest.mark.parametrize("steps", range(6))
def test_a_commit_killed_between_any_two_renames_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    store = write_store(tmp_path, d01="a", d02="b", d03="c")
    rename, done = store_module.rename, []

    def killed(old: Path, new: Path) -> None:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(new)
        rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), Transaction(store) as transaction:
        write_partition(transaction, "2024-01-01", "A")
        write_partition(transaction, "2024-01-04", "D")
        transaction.remove(["events/date=2024-01-02"])
        transaction.write("_contract.json", contract("string"))
        patch.setattr(store_module, "rename", killed)
        transaction.commit()
    if steps == 0:  # killed before the decision: as it was
        assert store.dates() == ["2024-01-01", "2024-01-02", "2024-01-03"] and store.event_files()[0].read_text() == "a"
        return
    with pytest.raises(NotIngested, match="interrupted in its last step"):
        store.dates()
    finish_commit(tmp_path)
    assert [path.read_text() for path in store.event_files()] == ["A", "c", "D"]
    assert store.contract == contract("string") and not list(tmp_path.glob("_[no]*")) and not (tmp_path / "_commit.json").exists()
    finish_commit(tmp_path)


@pytest.mark.parametrize("make", [lambda path, held: path.symlink_to(held), lambda path, held: os.mkfifo(path)], ids=["link", "pipe"])
def test_a_link_or_a_pipe_in_a_store_is_named_and_not_opened(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    store = write_store(tmp_path / "store", d01="a", d02="b")
    held = (store.root / "events" / "date=2024-01-02" / "events.parquet").rename(tmp_path / "held")
    make(store.root / "events" / "date=2024-01-02" / "events.parquet", held)
    with pytest.raises(DataError, match=r"date=2024-01-02/events.parquet is a (link|pipe)"):
        store.verify()


def test_nothing_of_a_store_lies_behind_a_link(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", d01="a", d02="b")
    held = (store.root / "events" / "date=2024-01-02").rename(tmp_path / "held")
    (store.root / "events" / "date=2024-01-02").symlink_to(held)
    with pytest.raises(DataError, match=r"date=2024-01-02 is a link"):
        store.verify()


@pytest.mark.parametrize(
    "name", ["../../victim", "../victim", "events/../../victim", "VICTIM", "", ".", "events", "events/date=2024-01-01/..", "mine"]
)
@pytest.mark.parametrize("step", ["replace", "remove"])
def test_a_commit_moves_nothing_outside_its_store(tmp_path: Path, step: str, name: str) -> None:
    """A record may come from elsewhere with its workspace: anybody can write its seal."""
    root = tmp_path / "deep" / "store"
    write_store(root, d01="a")
    for victim in (tmp_path / "victim", root.parent / "victim"):
        victim.mkdir()
        (victim / "precious").write_text("x")
    before = tree(tmp_path)
    steps = {"replace": [], "remove": []} | {step: ["events/date=2024-01-01", name.replace("VICTIM", str(tmp_path / "victim"))]}
    write_sealed(root / "_commit.json", CommitRecord(**steps))
    with pytest.raises(DataError, match=r"_commit.json: .* is no folder or file of a store, so nothing is moved"):
        finish_commit(root)
    (root / "_commit.json").unlink()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("link", ["events", "_old", "_next", "items"])
def test_a_commit_moves_nothing_through_a_link(tmp_path: Path, link: str) -> None:
    root = tmp_path / "store"
    for name in ("victim/date=2024-01-01", "victim/items", "store/events" if link != "events" else "store"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "victim" / "items" / "precious").write_text("x")
    (root / link).symlink_to(tmp_path / "victim")
    write_sealed(root / "_commit.json", CommitRecord(replace=["items"], remove=["events/date=2024-01-01"]))
    with pytest.raises(DataError, match=rf"{link} is a link"):
        finish_commit(root)
    assert (tmp_path / "victim" / "date=2024-01-01").is_dir() and (tmp_path / "victim" / "items" / "precious").exists()


@pytest.mark.parametrize("name", ["../../../secret", "/etc/hostname"])
def test_a_manifest_names_files_of_its_own_folder_alone(tmp_path: Path, name: str) -> None:
    store = write_store(tmp_path / "store", d01="a")
    (tmp_path / "secret").write_text("a")
    place = store.root / "events" / "date=2024-01-01" / "_manifest.json"
    manifest = store.manifest("2024-01-01")
    write_sealed(place, manifest.model_copy(update={"sha256": {**manifest.sha256, name: manifest.sha256["events.parquet"]}}))
    with pytest.raises(DataError, match=r"is no name of something below it|is missing, though its manifest lists it"):
        store.verify()
    write_sealed(place, manifest.model_copy(update={"sha256": {}}))
    for ask in (store.partition_digests, lambda: store.verify_files(store.event_files())):
        with pytest.raises(DataError, match=r"_manifest.json: is damaged \(it does not list events.parquet\)"):
            ask()
