"""Derivatives that are written out are those that autograd finds, to the last digits of fp64."""

import copy

import pytest
import torch

from scaling.models import Graphs, Potential, build
from scaling.models.config import family
from scaling.models.ops import edges as edges_module
from tests.reference.double_backward import left_to_autograd
from tests.unit.models.test_physics import crystal
from tests.unit.models.test_physics import graphs as crystal_graphs

NUM_ATOMS, NUM_GRAPHS = 45, 3


@pytest.fixture
def graphs() -> Graphs:
    """Random edges, some of an atom to itself; some atoms have none, and nothing is symmetric."""
    torch.manual_seed(0)
    degree_N = torch.randint(0, 12, (NUM_ATOMS,))
    dst_E = torch.arange(NUM_ATOMS).repeat_interleave(degree_N)
    size = NUM_ATOMS // NUM_GRAPHS
    src_E = dst_E // size * size + torch.randint(0, size, dst_E.shape)
    return Graphs(
        element_N=torch.randint(0, 3, (NUM_ATOMS,)),
        x_N3=4 * torch.rand(NUM_ATOMS, 3, dtype=torch.float64),
        src_E=src_E,
        dst_E=dst_E,
        shift_E3=torch.randn(len(dst_E), 3, dtype=torch.float64),
        graph_N=torch.arange(NUM_ATOMS) // size,
        num_graphs=NUM_GRAPHS,
    )


def network(forces: str, depth: int, checkpointing: int, name: str = "egnn") -> Potential:
    torch.manual_seed(1)
    config = family(name)(width=8, depth=depth, forces=forces)
    model = build(
        config, num_elements=3, cutoff_ang=5.0, mean_degree=6.0, scale_ev=1.3, checkpointing=checkpointing
    ).double()
    for parameter in model.parameters():  # biases too, which begin at zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def loss(outputs: tuple[torch.Tensor, ...], energy_weight: float) -> torch.Tensor:
    energy_G, forces_N3 = outputs
    return energy_weight * (energy_G - 1).abs().sum() + (forces_N3 - 0.3).norm(dim=1).sum()


def gradient(model: Potential, graphs: Graphs, energy_weight: float, error: float = 0.0) -> list[torch.Tensor]:
    """As a step of training takes it."""
    outputs = model(graphs)
    if model.is_conservative:
        outputs = tuple(output.requires_grad_() for output in outputs)
        by_energy, by_forces = torch.autograd.grad(loss(outputs, energy_weight), outputs)
        (scalar,) = model(graphs, (by_energy, by_forces * (1 + error)))
    else:
        scalar = loss(outputs, energy_weight) * (1 + error)
    return list(torch.autograd.grad(scalar, list(model.parameters()), materialize_grads=True))


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    floor = 1e-3 * max(value.norm() for value in expected)
    return max(float((f - e).norm() / (e.norm() + floor)) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("energy_weight", [0.0, 0.1])  # the energy's part would hide errors in that of the forces
@pytest.mark.parametrize("block", [2**18, 300])
@pytest.mark.parametrize("checkpointing", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_values_and_gradients_are_those_of_autograd(
    graphs, forces, depth, checkpointing, block, energy_weight, monkeypatch
):
    monkeypatch.setattr(edges_module, "BLOCK_NUMBERS", block)
    model = network(forces, depth, checkpointing)
    plain = left_to_autograd(copy.deepcopy(model))
    for found, expected in zip(model(graphs), plain(graphs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    parameters = list(plain.parameters())
    expected = torch.autograd.grad(loss(plain(graphs), energy_weight), parameters, materialize_grads=True)
    assert worst(gradient(model, graphs, energy_weight), list(expected)) < 1e-12
    assert worst(gradient(model, graphs, energy_weight, error=1e-3), list(expected)) > 1e-4, "the control"


@pytest.mark.parametrize("energy_weight", [0.0, 0.1])
@pytest.mark.parametrize("checkpointing", [0, 1])
@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("name", ["dimenetpp", "gemnet_t"])
def test_gradients_of_triplet_models_are_those_of_double_backward(name, forces, checkpointing, energy_weight):
    batch = crystal_graphs(*crystal(0))
    model = network(forces, 2, checkpointing, name)
    plain = left_to_autograd(network(forces, 2, 0, name))
    for found, expected in zip(model(batch), plain(batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    parameters = list(plain.parameters())
    expected = torch.autograd.grad(loss(plain(batch), energy_weight), parameters, materialize_grads=True)
    assert worst(gradient(model, batch, energy_weight), list(expected)) < 1e-10
    assert worst(gradient(model, batch, energy_weight, error=1e-3), list(expected)) > 1e-4, "the control"


def test_edges_are_cut_into_blocks_of_whole_atoms(graphs):
    edges = graphs.edges
    cut = edges.blocks(edges_module.BLOCK_NUMBERS // 20)
    assert len(cut) > 5
    assert [b.edges.start for b in cut] == [0, *(b.edges.stop for b in cut[:-1])]
    assert [b.atoms.start for b in cut] == [0, *(b.atoms.stop for b in cut[:-1])]
    assert (cut[-1].atoms.stop, cut[-1].edges.stop) == (NUM_ATOMS, len(graphs.dst_E))
    for block in cut:
        assert set(graphs.dst_E[block.edges].tolist()) <= set(range(block.atoms.start, block.atoms.stop))


def test_conservative_energies_and_forces_are_constants_and_parameters_stay_trained(graphs):
    model = network("conservative", 2, 0)
    energy_G, forces_N3 = model(graphs)
    assert not energy_G.requires_grad
    assert not forces_N3.requires_grad
    assert all(parameter.requires_grad for parameter in model.parameters())
