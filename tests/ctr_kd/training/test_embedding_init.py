import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.models.layers import TokenEmbedding
from ctr_kd.training.embedding_init import begin_with_teacher, begin_with_vectors, principal_directions
from ctr_kd.training.errors import TrainingError
from feature_store.special_tokens import PAD


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
    begin_with_teacher(student, teacher, vocabulary)
    one, two = student(vocabulary), teacher(vocabulary)
    torch.testing.assert_close(one @ one.T, two @ two.T)
    assert all((table.weight[PAD] == 0).all() and table.weight.requires_grad for table in student.embeddings())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    narrow = TokenEmbedding(sizes, 3)
    begin_with_teacher(narrow, teacher, vocabulary)
    assert (narrow(vocabulary[5:]).norm() / two[5:].norm()).item() > 0.7  # four vectors, three directions


def test_mistakes_are_named():
    with pytest.raises(TrainingError, match="width 3 cannot begin with embeddings of width 2"):
        principal_directions(torch.ones(4, 2), 3)
    with pytest.raises(TrainingError, match="not finite"):
        principal_directions(torch.tensor([[1.0, torch.nan]]), 1)


def test_word_vectors_are_where_tokens_begin_and_missing_ones_keep_what_they_drew():
    torch.manual_seed(0)
    student = TokenEmbedding({"token": 40}, 4)
    drawn = student.embeddings()[0].weight.detach().clone()
    vectors = torch.randn(40, 4) * 100
    vectors[:10] = torch.nan
    begin_with_vectors(student, vectors)
    table = student.embeddings()[0].weight.detach()
    assert torch.equal(table[:10], drawn[:10]) and (table[PAD] == 0).all()
    directions = torch.nn.functional.normalize
    torch.testing.assert_close(directions(table[10:]) @ directions(table[10:]).T, directions(vectors[10:]) @ directions(vectors[10:]).T)
    assert table[10:].square().mean().sqrt().item() == pytest.approx(drawn[5:].square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_vectors_of_another_width_are_projected_or_fill_the_first_columns(width):
    student = TokenEmbedding({"token": 30, "topic": 3}, width)
    before = [table.weight.detach().clone() for table in student.embeddings()]
    begin_with_vectors(student, torch.cat([torch.full((5, 4), torch.nan), torch.randn(25, 4)]))
    after = [table.weight.detach() for table in student.embeddings()]
    assert (after[0][5:, : min(width, 4)] != before[0][5:, : min(width, 4)]).all()
    assert torch.equal(after[0][:, 4:], before[0][:, 4:]) and torch.equal(after[1], before[1])


def test_vectors_of_another_vocabulary_and_none_at_all():
    student = TokenEmbedding({"token": 7}, 2)
    before = student.embeddings()[0].weight.detach().clone()
    begin_with_vectors(student, torch.full((7, 3), torch.nan))
    assert torch.equal(student.embeddings()[0].weight, before)
    with pytest.raises(ValueError, match="vectors of 9 tokens and the student has 7"):
        begin_with_vectors(student, torch.ones(9, 2))


def test_given_vectors_begin_as_the_teacher_projects_them():
    torch.manual_seed(0)
    values = {"title": np.concatenate([np.zeros((5, 4)), np.random.default_rng(0).normal(size=(4, 4))]).astype(np.float32)}
    student, teacher = (TokenEmbedding({"item": 9, "title": 9, "gap": 4}, 6, vectors=values) for _ in range(2))
    vocabulary = torch.tensor([[i, i if i > 5 else 1, 0] for i in range(9)], dtype=torch.int32)
    with torch.no_grad():
        teacher.given()[0].none.normal_()
    begin_with_teacher(student, teacher, vocabulary)
    one, two = student(vocabulary), teacher(vocabulary)
    torch.testing.assert_close(one @ one.T, two @ two.T)
