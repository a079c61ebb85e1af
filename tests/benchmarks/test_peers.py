import numpy as np
import pytest
import torch

pytest.importorskip("torch_rechub", reason="torch-rechub is not installed (extra `peers`)")

from benchmarks.peers import PEERS, TRIALS, Peer, Trial, random_batches, train_peer, trials_beside
from ctr_kd.config import DistillConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Assembly
from ctr_kd.training.loop import predict
from tests.ctr_kd.trainings import job_at, rows_of
from tests.ctr_kd.worlds import write_assembly

SHORT = Trial(width=4, hidden=(8,), epochs=3, batch_size=64, learning_rate=1e-2)


@pytest.fixture(scope="module")
def assembly(tmp_path_factory):
    return Assembly(write_assembly(tmp_path_factory.mktemp("assembly")), 5)


@pytest.fixture(scope="module")
def signature(assembly):
    return assembly.signature()


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("statistics", ["bins", "encoded", "both"])
def test_neither_padding_nor_the_batch_changes_a_logit(kind, statistics, assembly, signature):
    torch.manual_seed(0)
    model, test = Peer(kind, signature, Trial(statistics=statistics)).eval(), assembly.samples("test")
    assert len(np.unique(test.a.end - test.a.start)) > 2
    alone = np.concatenate([model(*make_batch(test, np.array([row]))).detach().numpy() for row in range(len(test))])
    np.testing.assert_allclose(predict(model, test), alone, atol=1e-5)
    assert np.ptp(alone) > 0


@pytest.mark.parametrize("kind", PEERS)
def test_history_and_candidate_share_a_table_whose_padding_stays_zero(kind, assembly, signature, tmp_path):
    model, _ = train_peer(kind, rows_of(assembly), SHORT, job_at(tmp_path / "training.pt"))
    tables = model.model.embedding.embed_dict
    assert not any(name.startswith("history") for name in tables)
    for name in signature.tokens:
        assert not tables[f"candidate {name}"].weight[0].any()
    assert tables["candidate item"].weight[1:].any()


def test_every_input_reaches_each_peer(assembly, signature):
    """A change of any one input changes the logits: nothing is dropped on the way."""
    batch = make_batch(assembly.samples("train"), np.arange(60))
    for kind in PEERS:
        torch.manual_seed(0)
        model = Peer(kind, signature, Trial(embedding_std=1.0)).eval()
        logits = model(*batch)
        gaps, item = batch.segment_a.clone(), batch.segment_b.clone()
        gaps[:, :, -1] += (gaps[:, :, -1] > 0).int()
        item[:, :, 0] = 1
        for changed in (
            batch._replace(segment_a=gaps),
            batch._replace(segment_b=item),
            batch._replace(categorical=torch.ones_like(batch.categorical)),
            *(batch._replace(dense=batch.dense.index_fill(1, torch.tensor([i]), torch.nan)) for i in range(len(signature.dense))),
        ):
            assert not torch.equal(model(*changed), logits)


def test_a_null_statistic_has_a_bin_of_its_own(assembly, signature):
    model = Peer("DIN", signature, Trial())
    batch = make_batch(assembly.samples("train"), np.arange(3))
    edges = next(iter(signature.dense.values()))
    dense = batch.dense.clone()
    dense[:, 0] = torch.tensor([torch.nan, edges[0] - 1, edges[-1] + 1])
    bins = model.inputs(batch._replace(dense=dense))[f"bin {next(iter(signature.dense))}"]
    assert bins.tolist() == [0, 1, len(edges) - 1]


@pytest.mark.parametrize("kind", PEERS)
def test_training_keeps_the_best_validation_auc_and_repeats(kind, assembly, signature, tmp_path):
    trained = [train_peer(kind, rows_of(assembly), SHORT, job_at(tmp_path / f"{i}.pt", seed=1)) for i in range(2)]
    curve = trained[0][1]
    assert curve.kept_score == max(point["auc"] for point in curve.points)
    assert curve.points[-1]["train_loss"] < curve.points[0]["train_loss"]
    first, second = (predict(model, assembly.samples("validation")) for model, _ in trained)
    assert np.array_equal(first, second)


def test_batches_hold_rows_once_and_are_never_a_remainder():
    rng = np.random.default_rng(0)
    batches = random_batches(10, 4, rng)
    assert [len(rows) for rows in batches] == [4, 4] and len(np.unique(np.concatenate(batches))) == 8
    assert [sorted(rows) for rows in random_batches(3, 4, rng)] == [[0, 1, 2]]


def test_the_trials_differ():
    assert len(set(TRIALS)) == len(TRIALS) >= 8


def test_a_peer_is_tried_with_what_our_student_has_and_then_with_the_usual_settings():
    usual = DistillConfig().training
    assert trials_beside(usual) == TRIALS
    first, *others = trials_beside(usual.model_copy(update={"epochs": 4.0, "learning_rate": 1e-2}))
    assert first == Trial(epochs=4, learning_rate=1e-2)
    assert tuple(others) == TRIALS
