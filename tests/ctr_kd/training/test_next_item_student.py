"""The distillation of an encoder into a light student of the next item."""

import numpy as np
import pytest
import torch

from ctr_kd.config import EncoderConfig, NextItemStudentConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import gather
from ctr_kd.data.samples import Assembly
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.next_item_student import asked_of, corrected, distil_next_items, log_inclusion, teacher_states
from ctr_kd.training.pretrain import build_encoder, predict_last_items, pretraining_sequences

TOKENS = np.array([[[7], [1], [9]], [[6], [0], [0]]], np.int32)


def test_every_prefix_that_a_known_item_follows_is_asked():
    asked = asked_of(TOKENS, np.array([3, 1]), True, np.random.default_rng(0))
    assert (asked.sequence.tolist(), asked.length.tolist(), asked.target.tolist()) == ([0, 0, 1], [0, 2, 0], [7, 9, 6])


def test_or_one_of_each_sequence():
    rng, found = np.random.default_rng(0), set()
    for _ in range(40):
        asked = asked_of(TOKENS, np.array([3, 1]), False, rng)
        assert asked.sequence.tolist() in ([0, 1], [1])  # an unknown item is no target
        found |= set(zip(asked.sequence.tolist(), asked.length.tolist(), asked.target.tolist(), strict=True))
    assert found == {(0, 0, 7), (0, 2, 9), (1, 0, 6)}


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_encoder_says_of_a_prefix_what_it_says_of_that_history(assembly, signature, attention):
    torch.manual_seed(0)
    teacher = build_encoder(assembly, signature, EncoderConfig(width=16, attention=attention, positions="relative", local_filter=2)).eval()
    sequences = assembly.sequences(None)
    tokens, length = gather(sequences, sequences.start[:6], sequences.end[:6])
    asked = asked_of(tokens, length, attention == "causal", np.random.default_rng(0))
    found = teacher_states(teacher, torch.from_numpy(tokens), torch.from_numpy(length), asked)
    with torch.no_grad():
        for sequence, before, state in zip(*asked[:2], found, strict=True):
            alone = teacher.history_state(torch.from_numpy(tokens[sequence : sequence + 1, :before]), torch.tensor([before]))
            torch.testing.assert_close(alone[0], state, atol=1e-5, rtol=1e-4)


def teacher_of(assembly, attention="causal"):
    torch.manual_seed(1)
    pretraining = PretrainConfig(encoder=EncoderConfig(width=16, attention=attention, positions="relative"), validation_share=0.2)
    teacher = build_encoder(assembly, assembly.signature(), pretraining.encoder)
    with torch.no_grad():  # an untrained encoder says the same of all items
        teacher.bias.normal_()
        teacher.bert.token.embeddings()[0].weight[5:].normal_(std=0.3)
    return teacher, pretraining


def taught(assembly, tmp_path, attention="causal", epochs=40, until=None, **settings):
    teacher, pretraining = teacher_of(assembly, attention)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    training = TrainingConfig(epochs=epochs, batch_size=16, learning_rate=1e-2, unknown_rate=0.0, keep="last", validations=2)
    config = NextItemStudentConfig(hidden=64, dropout=0.0, training=training, **settings)
    job = TrainingJob(seed=0, fingerprint="f", folder=tmp_path, name="student")
    student, curve = distil_next_items(assembly, teacher, pretraining, config, job, until=until)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    return teacher, student.eval(), curve


def distances(assembly, teacher, student):
    """Mean KL divergence of the student's, and of an even, distribution over the items from the teacher's."""
    sequences = assembly.sequences(None)
    tokens, length = (torch.from_numpy(part) for part in gather(sequences, sequences.start[:64], sequences.end[:64] - 1))
    with torch.no_grad():
        said = teacher.all_items(teacher.history_state(tokens, length))[:, 5:].softmax(1)
        found = student.all_items(student.history_state(tokens, length))[:, 5:].softmax(1)
    even = torch.full_like(said, 1 / said.shape[1])
    return [float((said * (said.log() - other.log())).sum(1).mean()) for other in (found, even)]


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_student_comes_to_say_what_its_teacher_says(assembly, tmp_path, attention):
    """By soft targets alone of a teacher that is random, so that labels cannot have taught it."""
    teacher, student, _ = taught(assembly, tmp_path, attention, alpha=0.0)
    found, even = distances(assembly, teacher, student)
    assert found < 0.5 * even


def test_a_sample_of_the_items_teaches_too(assembly, tmp_path, monkeypatch):
    monkeypatch.setattr("ctr_kd.training.next_item_student.FULL_SOFTMAX_ITEMS", 0)
    teacher, student, _ = taught(assembly, tmp_path, alpha=0.0, negatives=8)
    found, even = distances(assembly, teacher, student)
    assert found < 0.7 * even


def test_clicks_alone_teach_where_the_teacher_has_no_share(assembly, tmp_path):
    """With alpha 1 the loss is the nats of what was clicked: below those of the random teacher, whose share is none."""
    _, student, curve = taught(assembly, tmp_path, alpha=1.0)
    teacher, pretraining = teacher_of(assembly)
    training, _ = pretraining_sequences(assembly, pretraining, None, 0)
    of_student, of_teacher = (predict_last_items(model.eval(), training).loss.mean() for model in (student, teacher))
    assert of_student < of_teacher - 0.5
    assert curve.points[-1]["train_loss"] < np.log(len(assembly.vocabulary["item"]))


def test_clicks_known_later_change_nothing(assembly, tmp_path):
    """What is known from `until` on is not seen: the student is that of an assembly whose later clicks are others."""
    sequences = assembly.sequences(None)
    until = int(np.median(assembly.newest_known_at(sequences)))
    _, first, _ = taught(assembly, tmp_path / "a", epochs=2, until=until)
    _, everything, _ = taught(assembly, tmp_path / "b", epochs=2)
    seen = assembly.sequences(until)
    inside = np.zeros(len(assembly.clicks), bool)
    for start, end in zip(seen.start, seen.end, strict=True):
        inside[start:end] = True
    assert 0 < inside.sum() < len(inside)
    later, changed = np.flatnonzero(~inside), Assembly(assembly.directory, 5)
    pool = np.array(assembly.clicks)
    pool[later] = pool[np.random.default_rng(0).permutation(later)]
    changed.clicks = pool
    _, second, _ = taught(changed, tmp_path / "c", epochs=2, until=until)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(first.parameters(), everything.parameters(), strict=True))


def test_a_sample_stands_for_all_items():
    """The mean of many samples' sums is the sum over all items, whatever they are drawn by."""
    rng = np.random.default_rng(0)
    logits, drawn, clicked = rng.normal(size=30), rng.dirichlet(np.ones(30)) * 12, rng.dirichlet(np.ones(30)) * 4
    log_included = log_inclusion(np.log(drawn), clicked)
    sums = []
    for _ in range(4000):
        among = np.flatnonzero((rng.poisson(drawn) + rng.poisson(clicked)) > 0)
        among = np.union1d(among, [3])
        sample = torch.from_numpy(logits[among])[None].float()
        target = torch.tensor([int(np.searchsorted(among, 3))])
        sums.append(float(corrected(sample, target, torch.from_numpy(log_included[among])).exp().sum()))
    assert np.mean(sums) == pytest.approx(np.exp(logits).sum(), rel=0.03)


def test_a_student_wider_than_the_encoder_is_one_line(assembly, tmp_path):
    with pytest.raises(TrainingError, match="a student of width 32 cannot begin with embeddings of width 16: lower its width"):
        taught(assembly, tmp_path, width=32)
