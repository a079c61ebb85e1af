import numpy as np
import torch

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
