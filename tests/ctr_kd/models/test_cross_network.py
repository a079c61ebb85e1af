import numpy as np
import pytest
import torch
from torch import nn

from ctr_kd.models.cross_network import Cross, CrossNetwork


def numbers(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def test_a_cross_equals_numpy():
    """Wang et al., sections 3.2 and 3.5: x0 * (U V^T x + b) + x."""
    torch.manual_seed(0)
    cross = Cross(5, 2).double()
    p = numbers(cross)
    x0, x = np.random.default_rng(0).normal(size=(2, 3, 5))
    expected = x0 * (x @ (p["widen.weight"] @ p["narrow.weight"]).T + p["widen.bias"]) + x
    np.testing.assert_allclose(cross(torch.from_numpy(x0), torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-9)


def test_a_network_is_its_layers_one_after_the_other_and_nothing_without_any():
    torch.manual_seed(0)
    x, network = torch.randn(3, 5), CrossNetwork(5, 2, 2)
    first, second = network
    torch.testing.assert_close(network(x), second(x, first(x, x)))
    assert torch.equal(CrossNetwork(5, 2, 0)(x), x)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_layer_of_a_network_is_found_without_the_last_cross_and_so_are_its_gradients(layers, outputs):
    torch.manual_seed(0)
    network, layer = CrossNetwork(7, 2, layers).double(), nn.Linear(7, outputs).double()
    learned, given = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.randn(4, 4, dtype=torch.float64)
    of = [learned, *network.parameters(), *layer.parameters()]
    expected, found = layer(network(torch.cat([learned, given], dim=1))), network.into(layer, learned, given)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(logits.sin().sum(), of) for logits in (found, expected)]
    torch.testing.assert_close(*gradients)
