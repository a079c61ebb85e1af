import pytest

from ctr_kd.config import DistillConfig
from ctr_kd.objectives.schedule import Emphasis, emphasis


@pytest.mark.parametrize(
    ("settings", "expected"),  # labels, teacher and temperature at the beginning, halfway and at the end
    [
        ({}, [(0.5, 0.5, 2.0)] * 3),
        ({"preset": "tang", "alpha": 0.2}, [(0.2, 0.8, 2.0)] * 3),
        ({"preset": "hinton", "teacher_weight": 3}, [(1.0, 3.0, 2.0)] * 3),
        ({"alpha": 1, "temperature": 0, "schedule": {"weight": "warmup"}}, [(1.0, 0.0, 0.0)] * 3),
        ({"preset": "hinton", "alpha": 1}, [(1.0, 0.0, 2.0)] * 3),
        ({"schedule": {"weight": "annealed"}}, [(0.5, 0.5, 2.0), (0.75, 0.25, 2.0), (1.0, 0.0, 2.0)]),
        ({"schedule": {"weight": "annealed", "share": 0.5}}, [(0.5, 0.5, 2.0), (1.0, 0.0, 2.0), (1.0, 0.0, 2.0)]),
        ({"schedule": {"weight": "warmup"}}, [(0.0, 1.0, 2.0), (0.25, 0.75, 2.0), (0.5, 0.5, 2.0)]),
        ({"temperature": 5, "schedule": {"temperature": "annealed"}}, [(0.5, 0.5, 5.0), (0.5, 0.5, 3.0), (0.5, 0.5, 1.0)]),
        ({"preset": "hinton", "schedule": {"weight": "annealed"}}, [(1.0, 1.0, 2.0), (1.0, 0.5, 2.0), (1.0, 0.0, 2.0)]),
        (
            {"preset": "hinton", "teacher_weight": 3, "schedule": {"weight": "warmup"}},
            [(0.0, 1.0, 2.0), (0.5, 2.0, 2.0), (1.0, 3.0, 2.0)],
        ),
    ],
)
def test_weights_and_temperature_over_a_training(settings, expected):
    config = DistillConfig(**settings)
    assert [emphasis(config, progress) for progress in (0.0, 0.5, 1.0)] == [pytest.approx(Emphasis(*e)) for e in expected]
