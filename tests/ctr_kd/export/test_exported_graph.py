"""The exported graph on mapped rows says what the trained student says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctr_kd.config_students import StudentConfig
from ctr_kd.evaluation.importance import permuted
from ctr_kd.export.exported_graph import ExportedGraph
from ctr_kd.export.onnx_export import export_graph
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.loop import predict
from tests.ctr_kd.drawn_weights import where_order_counts


@pytest.mark.parametrize("kind", ["bilstm", "dcn"])
def test_logits_are_those_of_the_trained_student(kind, assembly, signature, tmp_path):
    torch.manual_seed(2)
    model = where_order_counts(STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=12))).eval()
    export_graph(model, signature, tmp_path / "student.onnx")
    graph, samples = ExportedGraph(tmp_path / "student.onnx"), assembly.samples("train")
    expected = predict(model, samples)
    np.testing.assert_allclose(graph.logits(samples), expected, atol=1e-5)
    np.testing.assert_allclose(graph.logits(samples, batch_size=16), expected, atol=1e-5)
    mixed = permuted(samples, assembly.input_groups()["history"], np.random.default_rng(0).permutation(len(samples)))
    np.testing.assert_allclose(graph.logits(mixed), predict(model, mixed), atol=1e-5)
