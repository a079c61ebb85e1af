"""The benchmark of a released teacher: what it gives transformers to read, and its configurations."""

from __future__ import annotations

import torch

from benchmarks.bench_released_teacher import SETS, padded, predicted_by
from pipelines.config.run import load


def test_batches_are_padded_to_their_longest_text_and_no_padding_is_seen() -> None:
    batch = padded([[101, 7, 102], [101, 102]])
    assert batch["input_ids"].tolist() == [[101, 7, 102], [101, 102, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_every_text_is_judged_once() -> None:
    class Lengths:
        """A model whose class is whether a text has more than two tokens."""

        def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Lengths:
            long = attention_mask.sum(1) > 2
            self.logits = torch.stack([~long, long], dim=1).float()
            return self

    texts = [[1] * (1 + row % 4) for row in range(130)]
    assert predicted_by(Lengths(), texts).tolist() == [int(row % 4 > 1) for row in range(130)]


def test_the_sets_have_configurations_with_the_same_teacher() -> None:
    first, second = (load(f"conf/{name}.yaml") for name in SETS)
    assert first.pretrain == second.pretrain and str(first.pretrain.checkpoint).startswith("package:")
