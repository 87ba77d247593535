"""What a GPU would refuse or compute otherwise, seen on a CPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from scaling.models import build
from scaling.models.config import FAMILIES, family
from scaling.models.ops.linear import Linear
from scaling.planning import backward, random_graphs

PRODUCTS = {"mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "dot"}


class NoIntegerProducts(TorchDispatchMode):
    """Refuses products of integer matrices, which CUDA does not have."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.partition(".")[0] in PRODUCTS:
            kinds = {value.dtype for value in tree_iter(args) if isinstance(value, torch.Tensor)}
            assert all(kind.is_floating_point for kind in kinds), f"{func.__name__} of {kinds}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_matrices_of_integers_are_multiplied(name, forces):
    graphs, labels_N3 = random_graphs(1, mean_degree=10.0, num_atoms=12)
    model = build(
        family(name)(width=4, depth=2, forces=forces), num_elements=5, cutoff_ang=5.0, mean_degree=10.0, scale_ev=1.0
    )
    with NoIntegerProducts():
        backward(model, graphs, lambda energy_G, forces_N3: energy_G.sum() + (forces_N3 - labels_N3).abs().sum())
        with pytest.raises(AssertionError, match=r"mv.* of .*int64"):
            graphs.src_E[:9].reshape(3, 3) @ graphs.dst_E[:3]  # the control


@pytest.mark.parametrize("bias", [True, False])
def test_tangents_have_the_precision_of_values_under_autocast(bias):
    layer = Linear(3, 5, bias=bias)
    if bias:
        torch.nn.init.normal_(layer.bias)
    x_KNI = torch.randn(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        both, value = layer(x_KNI), layer(x_KNI[:1])
        assert both.dtype == value.dtype == torch.bfloat16
        torch.testing.assert_close(both[0], value[0], atol=0.03, rtol=0.02)
    assert layer(x_KNI).dtype == torch.float32, "the control: without autocast"


@pytest.mark.parametrize("name", FAMILIES)
def test_linear_layers_give_values_and_tangents_in_the_same_precision_under_autocast(name):
    graphs, labels_N3 = random_graphs(1, mean_degree=10.0, num_atoms=12)
    model = build(family(name)(width=4, depth=2), num_elements=5, cutoff_ang=5.0, mean_degree=10.0, scale_ev=1.0)
    found: dict[int, set[torch.dtype]] = {1: set(), 2: set()}
    for module in model.modules():
        if isinstance(module, Linear):
            module.register_forward_hook(lambda _, inputs, output: found[len(inputs[0])].add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        backward(model, graphs, lambda energy_G, forces_N3: energy_G.sum() + (forces_N3 - labels_N3).abs().sum())
    assert found == {1: {torch.bfloat16}, 2: {torch.bfloat16}}
