import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.samples import GAP_BUCKETS, PAD, UNKNOWN, Signature, bin_edges, gap_bucket, index_of


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
    assert samples.b.pool.shape == (len(samples), len(signature.tokens))
    assert Signature.from_dict(signature.to_dict()) == signature
    for column, size in enumerate(signature.tokens.values()):
        assert samples.b.pool[:, column].max() < size


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
