"""The light student of next items."""

import numpy as np
import torch

from ctr_kd.config import NextItemStudentConfig
from ctr_kd.models.next_item import NextItemStudent


def student(assembly, signature, width=16):
    torch.manual_seed(0)
    return NextItemStudent(signature, torch.from_numpy(assembly.vocabulary_tokens()), width, NextItemStudentConfig(hidden=24)).eval()


def drawn(model, length, longest, seed=1):
    """Indices of items, oldest first, padded on the right."""
    items = np.random.default_rng(seed).integers(5, len(model.vocabulary), (len(length), longest))
    return torch.from_numpy(np.where(np.arange(longest) < np.array(length)[:, None], items, 0))


def test_every_prefix_is_what_it_is_by_itself(assembly, signature):
    """In training all prefixes are one convolution over clicks, oldest first; production asks for one history, newest first."""
    model, longest = student(assembly, signature), signature.max_length - 1
    items = drawn(model, [longest, 3], longest)
    with torch.no_grad():
        vectors = model.item_vectors()
        prefixes = model.prefixes(items, vectors)
        for row, most in enumerate([longest, 3]):
            for length in range(most + 1):
                newest = items[row : row + 1, :length].flip(1)
                padded = torch.nn.functional.pad(newest, (0, longest - length))  # padding says nothing
                for asked in [padded, newest] if length else [padded]:
                    alone = model(asked, torch.tensor([length]), vectors)
                    torch.testing.assert_close(alone[0], prefixes[row, length])


def test_the_state_of_a_history_is_that_of_its_last_prefix(assembly, signature):
    model = student(assembly, signature)
    items = drawn(model, [4, 0, 2], 4)
    tokens = torch.zeros(3, 4, len(signature.tokens), dtype=torch.int32)
    tokens[:, :, 0] = items
    with torch.no_grad():
        found = model.history_state(tokens, torch.tensor([4, 0, 2]))
        prefixes = model.prefixes(items, model.item_vectors())
        torch.testing.assert_close(found, prefixes[torch.arange(3), torch.tensor([4, 0, 2])])
        logits = model.all_items(found)
        torch.testing.assert_close(logits, found @ model.item_vectors().T + model.bias)


def test_a_history_by_hand(assembly, signature):
    model = student(assembly, signature)
    items = drawn(model, [3], 3)
    with torch.no_grad():
        found = model(items.flip(1), torch.tensor([3]), model.item_vectors())[0].double().numpy()
        vectors, age = model.item_vectors().double().numpy(), model.age.double().numpy()
        beginning = model.beginning.double().numpy()
        total = sum(vectors[items[0, 2 - back]] * age[:, back] for back in range(3)) + beginning * age[:, 3]
        x = torch.from_numpy((total - total.mean()) / np.sqrt(total.var() + 1e-5))
        hidden = torch.nn.functional.gelu(x @ model.expand.weight.T.double() + model.expand.bias.double())
        y = x + hidden @ model.contract.weight.T.double() + model.contract.bias.double()
        np.testing.assert_allclose(found, ((y - y.mean()) / (y.var(unbiased=False) + 1e-5).sqrt()).numpy(), atol=1e-5)
