from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.data import disk_arrays
from ctr_kd.data.batching import gather
from ctr_kd.data.samples import GAP_BUCKETS, POOL, Assembly, Segment, Signature, bin_edges, gap_bucket, index_of, of_mean_one
from feature_store.special_tokens import PAD, UNKNOWN
from tests.ctr_kd.worlds import with_label, write_assembly


def test_ids_compare_by_their_text():
    assert index_of(pa.array([12, 13, None]), ["12", "7"]).tolist() == [5, UNKNOWN, PAD]
    assert index_of(pa.array(["12", "012", None]), ["12"]).tolist() == [5, UNKNOWN, PAD]


def test_gap_buckets_by_hand():
    second = 1_000_000
    time = np.array([0, 0, 1, 4, 10**7, 5]) * second
    known = np.array([True, True, True, False, True, True])
    first = np.array([True, False, False, False, False, True])
    # unknown: the first of a sequence, and both neighbours of an unknown time
    assert gap_bucket(time, known, first).tolist() == [0, 1, 2, 0, 0, 0]
    assert gap_bucket(np.array([0, 10**15]), np.array([True, True]), np.array([True, False])).tolist() == [0, GAP_BUCKETS - 1]


def test_bin_edges_ascend_and_ignore_nulls():
    edges = bin_edges(np.array([np.nan, 3, 1, 1, 1, 2], np.float32))
    assert edges == sorted(set(edges)) and edges[0] == 1 and edges[-1] == 3
    assert bin_edges(np.array([np.nan], np.float32)) == [0.0, 1.0]


def test_samples_follow_the_rows(assembly, signature):
    samples = assembly.samples("train")
    assert len(samples) > 0 and (samples.a.end - samples.a.start).max() <= 5
    assert samples.dense.shape == (len(samples), len(signature.dense))
    assert np.isnan(samples.dense[:, 0]).any()
    assert samples.b.pool.shape == (len(assembly.item_tokens), len(signature.tokens))
    assert (samples.b.end - samples.b.start == 1).all() and not samples.b.pool[:, -1].any()
    assert Signature(**signature.to_dict()) == signature
    for column, size in enumerate(signature.tokens.values()):
        assert samples.b.pool[:, column].max() < size


@pytest.mark.parametrize("piece", [7, 1000])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_samples_of_a_log_that_is_too_large_lie_on_disk_and_are_the_same(assembly, split, piece, monkeypatch):
    in_memory = assembly.samples(split)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(disk_arrays, "PIECE", piece)
    on_disk = assembly.samples(split)
    assert isinstance(on_disk.label, np.memmap) and not isinstance(in_memory.label, np.memmap)
    for kept, expected in zip(on_disk.by_row.values(), in_memory.by_row.values(), strict=True):
        assert kept.dtype == expected.dtype and np.array_equal(kept, expected, equal_nan=kept.dtype.kind == "f")
    assert not [path for path in assembly.directory.iterdir() if path.name.startswith("tmp")]


def test_items_are_new_where_training_has_no_id_of_them(assembly):
    shares = [assembly.samples(split).new_item_share for split in ("train", "validation", "test")]
    assert shares[0] < shares[1] == pytest.approx(2 / 9) and 0 <= shares[2] <= 1


def test_sequences_hold_every_click_once_and_cut_at_a_time(assembly):
    whole = assembly.sequences(None)
    assert ((whole.end - whole.start) >= 2).all() and ((whole.end - whole.start) <= 5).all()
    positions = np.concatenate([np.arange(s, e) for s, e in zip(whole.start, whole.end, strict=True)])
    assert len(np.unique(positions)) == len(positions)
    users, owner = pq.read_table(assembly.directory / "clicks.parquet")["user"].to_numpy(), assembly.users_of(whole)
    assert all((users[s:e] == user).all() for s, e, user in zip(whole.start, whole.end, owner, strict=True))
    half = assembly.sequences(5 * 10**11)
    assert 0 < (half.end - half.start).sum() < len(positions)
    assert len(assembly.sequences(0).start) == 0


def test_the_pool_is_mapped_from_its_file_and_holds_what_memory_would(tmp_path):
    directory = write_assembly(tmp_path)
    held = Assembly(directory, 5).clicks
    assert not isinstance(held, np.memmap)
    Assembly(directory, 5).write_pool()
    mapped = Assembly(directory, 5)
    assert isinstance(mapped.clicks, np.memmap) and not mapped.clicks.flags.writeable
    assert mapped.clicks.dtype == np.int32 and np.array_equal(mapped.clicks, held)
    assert mapped.sequences(None).pool is mapped.samples("train").a.pool is mapped.clicks


def test_what_is_mapped_takes_no_memory_of_the_process(tmp_path):
    rows = 8_000_000
    with open(tmp_path / POOL, "wb") as file:  # 64 MB
        np.lib.format.write_array_header_2_0(file, {"descr": "<i4", "fortran_order": False, "shape": (rows, 2)})
        file.truncate(file.tell() + rows * 8)
    assembly = Assembly(write_assembly(tmp_path), 5)
    before = own_memory()
    sequences = Segment(assembly.clicks, np.arange(0, rows, 1000), np.arange(5, rows + 5, 1000))
    for begin in range(0, len(sequences.start), 256):
        gather(sequences, sequences.start[begin : begin + 256], sequences.end[begin : begin + 256])
    assert own_memory() - before < 8 << 20


def own_memory():
    """Bytes that only this process holds; pages of a file are the system's to take back."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1]) * 1024


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_change_neither_tokens_nor_sequences(chunk, tmp_path, monkeypatch):
    whole = Assembly(write_assembly(tmp_path, users=100), 3)
    pool, sequences = whole.clicks, {until: whole.sequences(until) for until in (None, 0, 5 * 10**11)}
    monkeypatch.setattr("ctr_kd.data.samples.CLICK_CHUNK", chunk)
    cut = Assembly(tmp_path, 3)
    assert np.array_equal(cut.clicks, pool)
    for until, expected in sequences.items():
        found = cut.sequences(until)
        assert np.array_equal(found.start, expected.start) and np.array_equal(found.end, expected.end)


def test_no_click_at_all(tmp_path):
    directory = write_assembly(tmp_path)
    clicks = pq.read_table(directory / "clicks.parquet")
    pq.write_table(clicks.slice(0, 0), directory / "clicks.parquet")
    Assembly(directory, 5).write_pool()
    assembly = Assembly(directory, 5)
    assert assembly.clicks.shape == (0, 3) and len(assembly.sequences(None).start) == 0


@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.7])
def test_pieces_are_cut_from_the_newest_click_back(overlap, tmp_path):
    """Against a loop over the runs of adjacent clicks of each user."""
    directory = write_assembly(tmp_path, users=60)
    assembly, stride = Assembly(directory, 5), round(5 * (1 - overlap))
    clicks = pq.read_table(directory / "clicks.parquet", columns=["user", "canonical"]).to_pydict()
    expected, run = [], []
    for at, (user, canonical) in enumerate(zip(clicks["user"], clicks["canonical"], strict=True)):
        if canonical and run and run[-1] == at - 1 and clicks["user"][at - 1] == user:
            run.append(at)
            continue
        expected += pieces(run, stride)
        run = [at] if canonical else []
    expected += pieces(run, stride)
    found = assembly.sequences(None, overlap)
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == expected
    assert any(end - start == 5 for start, end in expected)


def pieces(run, stride):
    cut, end = [], len(run)
    while end > 0:
        cut.append((run[max(end - 5, 0)], run[end - 1] + 1))
        end = end - stride if end > 5 else 0
    return [(start, end) for start, end in reversed(cut) if end - start >= 2]


def test_further_labels_stand_beside_the_click_and_are_below_zero_where_unknown(directory, tmp_path):
    plain = Assembly(directory, 5)
    clicked = pq.read_table(directory / "rows.parquet")["label"].to_numpy()
    bought = np.where(np.arange(len(clicked)) % 3 == 0, -1, clicked)
    several = Assembly(with_label(directory, tmp_path / "several", bought), 5, chain=True)
    part, other = several.samples("train"), plain.samples("train")
    assert part.further.dtype == np.float32 and part.further.shape == (len(part), 1)
    assert np.array_equal(part.label, other.label) and other.further is None and other.labels is other.label
    assert np.array_equal(part.labels, np.stack([part.label, bought[: len(part)]], axis=1))
    signature = several.signature()
    assert (signature.labels, signature.outputs, signature.chain) == (("bought",), 2, True)
    assert plain.signature() == Assembly(directory, 5, chain=True).signature()
    assert signature.to_dict()["labels"] == ["bought"] and not {"labels", "chain"} & plain.signature().to_dict().keys()
    unshown = several.samples_of(pq.read_table(directory / "rows.parquet"))  # rows that nobody was shown have no label_bought
    assert (unshown.further == -1).all()


def test_weights_of_many_rows_lie_on_disk_and_are_the_same(tmp_path, monkeypatch):
    weight = np.random.default_rng(0).random(50)
    expected = of_mean_one(weight, tmp_path)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(disk_arrays, "PIECE", 7)
    found = of_mean_one(weight, tmp_path)
    assert isinstance(found, np.memmap) and found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(of_mean_one(weight), expected) and not list(tmp_path.iterdir())
