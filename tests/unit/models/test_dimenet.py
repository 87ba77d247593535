"""DimeNet++ is the one of torch-geometric, where that one is defined: on molecules, with copied weights."""

import math

import pytest
import torch
from torch_geometric.nn.models import DimeNetPlusPlus as Reference
from torch_geometric.nn.models import dimenet

from scaling.data.neighbors import neighbor_list
from scaling.models import Graphs, Potential, build
from scaling.models.dimenet import DimeNetPlusPlusConfig

CUTOFF, WIDTH, DEPTH, TRIPLET, OUT, RADIAL = 4.0, 12, 2, 6, 10, 6
MEAN_DEGREE = 5.0


@pytest.fixture(scope="module", params=[4, pytest.param(7, marks=pytest.mark.long)])
def reference(request) -> Reference:
    """Random weights everywhere; by default the last layer's are zero. Its basis takes ten seconds at seven degrees."""
    torch.manual_seed(0)
    model = Reference(
        hidden_channels=WIDTH,
        out_channels=1,
        num_blocks=DEPTH,
        int_emb_size=TRIPLET,
        basis_emb_size=8,
        out_emb_channels=OUT,
        num_spherical=request.param,
        num_radial=RADIAL,
        cutoff=CUTOFF,
        max_num_neighbors=100,
        output_initializer="glorot_orthogonal",
    ).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * parameter.std().nan_to_num(1.0)
    model.rbf.freq.data = math.pi * torch.arange(1, RADIAL + 1, dtype=torch.float64)
    return model


def ours(reference: Reference) -> Potential:
    num_spherical = reference.sbf.num_spherical
    sizes = {"num_radial": RADIAL, "num_spherical": num_spherical, "triplet_width": TRIPLET, "output_width": OUT}
    config = DimeNetPlusPlusConfig(width=WIDTH, depth=DEPTH, **sizes)
    model = build(config, num_elements=95, cutoff_ang=CUTOFF, mean_degree=MEAN_DEGREE, scale_ev=1.0).double()
    copied = []

    def copy(target: torch.nn.Parameter, source: torch.Tensor, factor: float = 1.0) -> None:
        target.data.copy_(source * factor)
        copied.append(target)

    def linear(target, source) -> None:
        copy(target.weight, source.weight)
        if target.bias is not None:
            copy(target.bias, source.bias)

    def residuals(target, source) -> None:
        for layer, other in zip(target, source, strict=True):
            linear(layer.first, other.lin1)
            linear(layer.second, other.lin2)

    emb, trunk = reference.emb, model.trunk
    copy(trunk.embedding.weight, emb.emb.weight)
    linear(trunk.first.radial, emb.lin_rbf)
    dst, src, length = emb.lin.weight.split(WIDTH, dim=1)
    copy(trunk.first.ends.weight, torch.cat([dst, src]))
    copy(trunk.first.length.weight, length)
    copy(trunk.first.length.bias, emb.lin.bias)
    undo = math.sqrt(MEAN_DEGREE)  # there, sums are not divided by the root of the number of neighbours
    sign_SR = (-1.0) ** torch.arange(num_spherical)[:, None].expand(-1, RADIAL)  # there, the supplement of the angle
    for layer, other in zip(trunk.layers, reference.interaction_blocks, strict=True):
        linear(layer.own, other.lin_ji)
        linear(layer.other, other.lin_kj)
        linear(layer.radial[0], other.lin_rbf1)
        linear(layer.radial[1], other.lin_rbf2)
        linear(layer.down, other.lin_down)
        copy(layer.spherical_in, other.lin_sbf1.weight.view(-1, num_spherical, RADIAL) * sign_SR)
        copy(layer.spherical_out, other.lin_sbf2.weight, undo)
        linear(layer.up, other.lin_up)
        residuals(layer.before_skip, other.layers_before_skip)
        linear(layer.skip, other.lin)
        residuals(layer.after_skip, other.layers_after_skip)
    for block, other in zip(model.energy_head, reference.output_blocks, strict=True):
        copy(block.gate.weight, other.lin_rbf.weight, undo)
        linear(block.mlp[0], other.lin_up)
        for layer, lin in zip(block.mlp[1:], other.lins, strict=True):
            linear(layer, lin)
        copy(block.out.weight, other.lin.weight, math.sqrt(DEPTH + 1))
    assert {id(p) for p in copied} == {id(p) for p in model.parameters()}, "a parameter was left as it was"
    return model


def molecule(seed: int, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    lattice = torch.cartesian_prod(*3 * [torch.arange(3.0)])[torch.randperm(27)[:size]]
    return torch.randint(1, 20, (size,)), (1.4 * lattice + 0.2 * torch.randn(size, 3)).double()


def graphs(z: torch.Tensor, x: torch.Tensor) -> Graphs:
    edge_index, _ = neighbor_list(x.numpy(), torch.zeros(3, 3).numpy(), torch.zeros(3).numpy(), CUTOFF)
    src, dst = torch.as_tensor(edge_index)
    return Graphs(z, x, src, dst, torch.zeros(len(src), 3).double(), torch.zeros(len(z), dtype=torch.long), 1)


@pytest.mark.parametrize("seed", range(5))
def test_energies_and_forces_are_those_of_torch_geometric(reference, seed, monkeypatch):
    z, x = molecule(seed)
    batch = graphs(z, x)
    # its own lists of neighbours and triplets need packages with compiled code: all pairs of edges are tried
    meet = (batch.dst_E[:, None] == batch.src_E) & (batch.src_E[:, None] != batch.dst_E)
    kj, ji = meet.nonzero().unbind(1)
    triplets = batch.dst_E, batch.src_E, batch.dst_E[ji], batch.src_E[ji], batch.src_E[kj], kj, ji
    monkeypatch.setattr(dimenet, "radius_graph", lambda *_, **__: torch.stack([batch.src_E, batch.dst_E]))
    monkeypatch.setattr(dimenet, "triplets", lambda *_, **__: triplets)
    x = x.clone().requires_grad_()
    expected = reference(z, x).sum()
    (gradient,) = torch.autograd.grad(expected, x)
    energy_G, forces_N3 = ours(reference)(batch)
    # its Bessel zeros and norms have the digits of single precision
    torch.testing.assert_close(energy_G[0], expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(forces_N3, -gradient, rtol=1e-5, atol=1e-5)
    other = ours(reference)
    other.trunk.layers[0].spherical_in.data[3] *= 1.01
    assert not torch.allclose(other(batch)[1], -gradient, rtol=1e-5, atol=1e-5), "the control"
