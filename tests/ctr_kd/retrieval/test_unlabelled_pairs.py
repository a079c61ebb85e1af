"""Rows without labels beside those with, and what they do to a student."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.config import DistillConfig, EncoderConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data import disk_arrays
from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Assembly, Samples, Segment
from ctr_kd.retrieval.item_index import ItemIndex
from ctr_kd.retrieval.unlabelled_pairs import item_codes, item_vectors, join_rows, joined_pieces, nearest_codes
from ctr_kd.training.distill import train_student, without_effect
from ctr_kd.training.job import TrainingRows
from ctr_kd.training.pretrain import build_encoder
from tests.ctr_kd.trainings import job_at

FAST = TrainingConfig(epochs=2, batch_size=32, learning_rate=5e-3, validations=2)


@pytest.fixture(scope="module")
def unlabelled_file(directory, tmp_path_factory):
    """Every third training row once more, on another item and without its label."""
    rows = pq.read_table(directory / "rows.parquet", filters=[("split", "=", "train")]).to_pandas()[::3].copy()
    rows["row_id"] += 100_000
    rows["item"] = (rows["item"] + 1) % 30
    rows["label"] = np.int8(-1)
    file = tmp_path_factory.mktemp("unlabelled") / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), file)
    return file


@pytest.fixture(scope="module")
def unlabelled(assembly, unlabelled_file):
    return assembly.samples_of_file(unlabelled_file)


def content(samples: Samples) -> dict[int, tuple]:
    """Everything that a row says, by its id."""
    return {
        int(samples.row_id[i]): (
            samples.group[i], samples.user[i], samples.a.start[i], samples.a.end[i], samples.label[i],
            samples.b.pool[samples.b.start[i] : samples.b.end[i]].tolist(), samples.categorical[i].tolist(), samples.dense[i].tobytes(),
        )
        for i in range(len(samples))
    }  # fmt: skip


def clicks_of(segment: Segment) -> list[list]:
    return [segment.pool[start:end].tolist() for start, end in zip(segment.start, segment.end, strict=True)]


def test_joined_rows_are_all_rows_in_the_order_of_their_requests(assembly, unlabelled, tmp_path):
    train = assembly.samples("train")
    joined = join_rows(train, unlabelled, tmp_path)
    assert content(joined) == content(train) | content(unlabelled)
    assert (np.diff(joined.group) >= 0).all()
    assert joined.row_id[joined.label >= 0].tolist() == train.row_id.tolist()
    batch = make_batch(joined, np.arange(len(joined)))
    assert len(batch.segment_a) <= len(np.unique(joined.group))  # rows without labels bring no history of their own


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("more", ["", "weights", "further", "later clicks", "both on disk"])
def test_rows_joined_on_disk_are_those_joined_in_memory(directory, unlabelled_file, tmp_path, monkeypatch, piece, more):
    assembly = Assembly(directory, 5, later_clicks=3 if more == "later clicks" else 0)
    train, unlabelled = assembly.samples("train"), assembly.samples_of_file(unlabelled_file)
    if more == "weights":
        train = dataclasses.replace(train, weight=np.arange(len(train), dtype=np.float32))
    if more == "further":
        train = dataclasses.replace(train, further=np.stack([train.label, 1 - train.label], axis=1))
    in_memory = join_rows(train, unlabelled, tmp_path)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(disk_arrays, "PIECE", piece)
    if more == "both on disk":
        train, unlabelled = assembly.samples("train"), assembly.samples_of_file(unlabelled_file)
        assert train.on_disk and unlabelled.on_disk
    on_disk = join_rows(train, unlabelled, tmp_path)
    assert on_disk.on_disk and not in_memory.on_disk and len(list(joined_pieces(train, unlabelled))) >= min(3, 200 // piece)
    assert on_disk.a.pool is in_memory.a.pool and not list(tmp_path.iterdir())
    for name, array in in_memory.by_row.items():
        assert on_disk.by_row[name].dtype == array.dtype
        np.testing.assert_array_equal(on_disk.by_row[name], array)


def test_an_unlabelled_row_has_the_later_clicks_of_its_request_and_a_student_has_none(directory, unlabelled_file, tmp_path):
    assembly = Assembly(directory, 5, later_clicks=3)
    train, unlabelled = assembly.samples("train"), assembly.samples_of_file(unlabelled_file)
    given = dict(zip(train.group.tolist(), clicks_of(train.later), strict=True))
    other = dataclasses.replace(unlabelled, group=np.where(unlabelled.group == unlabelled.group[-1], 10**6, unlabelled.group))
    joined = join_rows(train, other, tmp_path)
    assert joined.later is not None
    seen = clicks_of(joined.later)
    assert seen == [given.get(int(group), []) for group in joined.group]
    assert any(clicks for clicks, label in zip(seen, joined.label, strict=True) if label < 0) and joined.group[-1] == 10**6
    batch = make_batch(joined, np.arange(len(joined)))
    assert len(batch.segment_a) <= len(np.unique(joined.group))
    assert join_rows(dataclasses.replace(train, later=None), unlabelled, tmp_path).later is None


@settings(max_examples=60, deadline=None)
@given(groups=st.tuples(*[st.lists(st.integers(0, 8), max_size=12).map(sorted)] * 2), piece=st.integers(1, 6))
def test_no_request_is_cut_and_no_row_lost_whatever_the_requests(assembly, tmp_path_factory, groups, piece):
    rows = assembly.samples("train").take(np.arange(12))
    one, two = (dataclasses.replace(rows.take(slice(0, len(group))), group=np.array(group, np.int64)) for group in groups)
    two = dataclasses.replace(two, row_id=two.row_id + 1000)
    folder = tmp_path_factory.getbasetemp()
    expected = join_rows(one, two, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_arrays, "MOST_IN_MEMORY", -1)
        patch.setattr(disk_arrays, "PIECE", piece)
        joined, pieces = join_rows(one, two, folder), list(joined_pieces(one, two))
    assert joined.row_id.tolist() == expected.row_id.tolist() and joined.group.tolist() == expected.group.tolist()
    seen = [{*one.group[some].tolist(), *two.group[more].tolist()} for some, more in pieces]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_many_rows_out_of_the_order_of_their_requests_are_refused(assembly, unlabelled, tmp_path, monkeypatch):
    train = assembly.samples("train")
    backwards = train.take(np.arange(len(train))[::-1])
    assert len(join_rows(backwards, unlabelled, tmp_path)) == len(train) + len(unlabelled)
    monkeypatch.setattr(disk_arrays, "MOST_IN_MEMORY", 5)
    with pytest.raises(ValueError, match="must lie in the order of their requests"):
        join_rows(backwards, unlabelled, tmp_path)


def students(assembly, signature, rows, teacher, tmp_path, **keys):
    config = DistillConfig(**{"training": FAST, "student": StudentConfig(width=8, hidden=8), **keys})
    learned = TrainingRows(signature=signature, train=rows, validation=assembly.samples("validation"))
    return train_student(learned, config, job_at(tmp_path / "c.pt"), teacher=teacher)


def test_rows_without_labels_add_no_step_and_teach(assembly, signature, unlabelled, tmp_path):
    train = assembly.samples("train")
    joined = join_rows(train, unlabelled, tmp_path)
    logit = dict(zip(joined.row_id, np.random.default_rng(0).normal(size=(len(joined), 1)), strict=True))

    def teacher(rows: Samples) -> np.ndarray:
        return np.stack([logit[row] for row in rows.row_id]).astype(np.float32)

    taught, curve = students(assembly, signature, joined, teacher(joined), tmp_path)
    (tmp_path / "c.pt").unlink()
    plain, usual = students(assembly, signature, train, teacher(train), tmp_path)
    assert curve.steps == usual.steps
    assert not torch.equal(next(taught.parameters()), next(plain.parameters()))


def test_the_label_of_an_unlabelled_row_is_never_read(assembly, signature, unlabelled, tmp_path):
    """Any value below zero gives the same student, under every loss."""
    train = assembly.samples("train")
    found = []
    for value in (-1, -7):
        rows = join_rows(train, dataclasses.replace(unlabelled, label=np.full(len(unlabelled), value, np.float32)), tmp_path)
        teacher = np.random.default_rng(0).normal(size=(len(rows), 1)).astype(np.float32)
        model, _ = students(assembly, signature, rows, teacher, tmp_path, gate="label", listwise=0.3)
        (tmp_path / "c.pt").unlink()
        found.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_nearest_codes_are_those_of_the_embedding(assembly, signature):
    torch.manual_seed(0)
    encoder = build_encoder(assembly, signature, EncoderConfig(width=16, heads=2, layers=1))
    vectors = item_vectors(encoder)
    codes = item_codes(assembly)
    assert [str(100 + code) for code in codes] == assembly.vocabulary["item"]  # ids of the world are 100 + code
    nearest = nearest_codes(assembly, ItemIndex(vectors), 4)
    assert nearest.shape == (30, 4) and (nearest[26:] == -1).all()  # the last four items have no embedding of their own
    for place, code in enumerate(codes):
        cosine = vectors @ vectors[place] / np.linalg.norm(vectors, axis=1)
        cosine[place] = -np.inf
        assert nearest[code].tolist() == codes[np.argsort(-cosine)[:4]].tolist()
    assert nearest_codes(assembly, ItemIndex(vectors), 1000).shape == (30, 25)
    with pytest.raises(ValueError, match="the index is over 7 items and the vocabulary has 26"):
        nearest_codes(assembly, ItemIndex(vectors[:7]), 2)


def test_a_transfer_set_without_a_teacher_has_no_effect():
    config = DistillConfig(alpha=1, transfer={"amount": 0.5})
    assert not config.transfers and [line.split()[1] for line in without_effect(config)] == ["transfer"]
    assert DistillConfig(transfer={"amount": 0.5}).transfers and not DistillConfig().transfers


def test_rows_without_a_weight_of_their_own_weigh_one(assembly, unlabelled, tmp_path):
    train = assembly.samples("train")
    assert join_rows(train, unlabelled, tmp_path).weight is None
    weighted = dataclasses.replace(train, weight=np.full(len(train), 2.5, np.float32))
    joined = join_rows(weighted, unlabelled, tmp_path)
    assert joined.weight is not None and joined.weight.dtype == np.float32
    np.testing.assert_array_equal(joined.weight, np.where(joined.label < 0, 1.0, 2.5))


def test_further_labels_of_unlabelled_rows_are_unknown(assembly, tmp_path):
    rows = assembly.samples("train")
    labelled = dataclasses.replace(rows, further=np.stack([rows.label, 1 - rows.label], axis=1))
    joined = join_rows(labelled, dataclasses.replace(rows, label=np.full(len(rows), -1, np.float32)), tmp_path)
    assert joined.further.shape == (2 * len(rows), 2)
    assert np.array_equal(joined.further[joined.label >= 0, 0], joined.label[joined.label >= 0])
    assert (joined.further[joined.label < 0] == -1).all()
    assert join_rows(rows, rows, tmp_path).further is None
