import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.embedding_transfer import begin_with, principal_directions
from ctr_kd.models.inputs import TokenEmbedding
from ctr_kd.samples import PAD
from ctr_kd.training import TrainingError


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_directions_equal_numpys_svd(items, teacher_width, data):
    width = data.draw(st.integers(1, teacher_width))
    vectors = np.random.default_rng(data.draw(st.integers(0, 999))).normal(size=(items, teacher_width))
    directions = principal_directions(torch.tensor(vectors), width).numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(width), atol=1e-9)
    values = np.append(np.linalg.svd(vectors, compute_uv=False), np.zeros(teacher_width))[:width]
    np.testing.assert_allclose(np.linalg.norm(vectors @ directions, axis=0), values, atol=1e-6)
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(width)] > 0).all()


def test_golden_values():
    vectors = torch.tensor([[0.0, -3.0], [0.0, 3.0], [1.0, 0.0]])
    assert principal_directions(vectors, 1).tolist() == [[0.0], [1.0]]
    # Not centred: a direction that all share is the first one, not none.
    assert principal_directions(torch.tensor([[5.0, 1.0], [5.0, -1.0]]), 1).flatten().tolist() == pytest.approx([1.0, 0.0])


def test_a_student_of_full_width_keeps_all_products_and_sums():
    sizes = {"item": 9, "topic": 7, "gap": 4}
    torch.manual_seed(0)
    student, teacher = TokenEmbedding(sizes, 6), TokenEmbedding(sizes, 6)
    vocabulary = torch.tensor([[i, 5 + i % 2 if i > 4 else 0, 0] for i in range(9)], dtype=torch.int32)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    begin_with(student, teacher, vocabulary)
    one, two = student(vocabulary), teacher(vocabulary)
    torch.testing.assert_close(one @ one.T, two @ two.T)
    assert all((table.weight[PAD] == 0).all() and table.weight.requires_grad for table in student.embeddings())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    narrow = TokenEmbedding(sizes, 3)
    begin_with(narrow, teacher, vocabulary)
    assert (narrow(vocabulary[5:]).norm() / two[5:].norm()).item() > 0.7  # four vectors, three directions


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="width 3 cannot begin with embeddings of width 2"):
        principal_directions(torch.ones(4, 2), 3)
    with pytest.raises(TrainingError, match="not finite"):
        principal_directions(torch.tensor([[1.0, torch.nan]]), 1)
