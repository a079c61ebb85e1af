"""The graph of texts and words, and what is learned on it."""

import numpy as np
import pytest
import torch

from ctr_kd.baselines import text_gcn
from ctr_kd.baselines.text_gcn import build_graph, fit_text_gcn, mutual_information

TEXTS = ["a b", "b a c", "c d", "d c e"]


def test_edges_are_tfidf_mutual_information_and_self_loops():
    graph = build_graph(TEXTS, str.split)
    matrix = graph.adjacency.toarray()
    assert graph.texts == 4 and matrix.shape == (8, 8)  # a, b, c and d are in two texts, e in one
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6)
    assert (np.diag(matrix) > 0).all() and not matrix[:4, :4][~np.eye(4, dtype=bool)].any()  # texts have no edge among themselves
    a, b, c, d = 4, 5, 6, 7
    assert matrix[0, a] > 0 and matrix[0, c] == 0 and matrix[a, b] > 0 and matrix[c, d] > 0 and matrix[a, c] == 0
    degree = 1 / np.diag(matrix)  # self loops are 1 before normalisation
    whole = matrix * np.sqrt(np.outer(degree, degree))
    np.testing.assert_allclose(whole.sum(1), degree, rtol=1e-5)
    np.testing.assert_allclose(whole[a, b], np.log(2 * 4 / (2 * 2)), rtol=1e-5)
    np.testing.assert_allclose(whole[0, a], np.log(5 / 3) + 1, rtol=1e-5)


def test_long_texts_are_seen_through_windows():
    words = [f"w{i}" for i in range(30)]
    matrix = build_graph([" ".join(words)] * 2, str.split).adjacency.toarray()
    place = {name: 2 + i for i, name in enumerate(sorted(words))}
    assert matrix[place["w0"], place["w29"]] == 0  # never in one window of twenty
    assert matrix[place["w0"], place["w1"]] > 0


def test_mutual_information_equals_its_definition():
    rng = np.random.default_rng(0)
    there = rng.random((40, 6)) < 0.4
    found = mutual_information(text_gcn.csr_matrix(there.astype(int))).toarray()
    for i in range(6):
        for j in range(6):
            both = (there[:, i] & there[:, j]).mean()
            expected = np.log(both / (there[:, i].mean() * there[:, j].mean())) if both and i != j else 0.0
            assert found[i, j] == pytest.approx(max(expected, 0.0), abs=1e-9)


def world(seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 120)
    texts = [" ".join(rng.choice([f"{'xy'[y]}{i}" for i in range(8)] + ["z", "q"], 4)) for y in label]
    split = np.arange(120) % 3
    masked = [torch.from_numpy(np.where(split == part, label, -1)) for part in (0, 1)]
    return build_graph(texts, str.split), *masked, label, split


def test_it_learns_repeats_and_never_reads_a_label_of_the_test_texts(monkeypatch):
    monkeypatch.setattr(text_gcn, "EPOCHS", 40)
    graph, train, validation, label, split = world()
    said = []
    logits, _ = fit_text_gcn(graph, train, validation, outputs=2, seed=0, report=said.append)
    assert (logits.argmax(1) == label)[split == 2].mean() > 0.85 and "nodes" in said[0]
    again, _ = fit_text_gcn(graph, train, validation, outputs=2, seed=0)
    np.testing.assert_array_equal(logits, again)
    assert (train[split == 2] < 0).all() and (validation[split == 2] < 0).all()


def test_it_stops_when_validation_does(monkeypatch):
    monkeypatch.setattr(text_gcn, "PATIENCE", 2)
    graph, train, validation, _, _ = world()
    noise = torch.where(validation >= 0, 1 - validation, -1)  # what is learned makes it worse
    _, epochs = fit_text_gcn(graph, train, noise, outputs=2, seed=0)
    assert epochs <= 5


def test_texts_that_share_no_word_are_no_graph():
    with pytest.raises(ValueError, match="no word is in two of the 2 texts"):
        build_graph(["a", "b"], str.split)
