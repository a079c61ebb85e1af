"""Threads change no gradient: a run on two cores repeats bit for bit."""

import numpy as np
import pytest
import torch

from ctr_kd.data.batching import Batch
from ctr_kd.models.students import STUDENTS
from tests.ctr_kd.models.test_students import build


@pytest.mark.parametrize("kind", ["teacher", *STUDENTS])
def test_gradients_repeat_on_two_threads(kind, assembly, signature):
    rng = np.random.default_rng(0)
    segments, rows, width = 400, 4000, len(signature.tokens)
    length = torch.from_numpy(rng.integers(1, 6, segments))
    batch = Batch(
        torch.from_numpy(rng.integers(1, 7, (segments, 5, width)).astype(np.int32)),
        length,
        torch.from_numpy(np.sort(rng.integers(0, segments, rows))),
        torch.from_numpy(rng.integers(1, 7, (rows, 1, width)).astype(np.int32)),
        torch.from_numpy(rng.integers(0, 7, (rows, len(signature.categorical))).astype(np.int32)),
        torch.from_numpy(rng.exponential(10, (rows, len(signature.dense))).astype(np.float32)),
    )
    model = build(kind, assembly, signature)
    torch.set_num_threads(2)
    gradients = []
    for _ in range(4):
        model.zero_grad()
        (model(*batch).squeeze(1) * torch.linspace(-1, 1, rows)).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    for other in gradients[1:]:
        assert all(torch.equal(one, two) for one, two in zip(gradients[0], other, strict=True))
