"""At any width and depth a new network's predictions are of the size of labels, and gradients reach its first layer."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from scaling.models import build
from scaling.models.config import family
from tests.unit.models.test_physics import crystal, graphs


def rattled() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Copper of 32 atoms, each moved by about 0.1 angstrom: some twenty neighbours within 4 angstrom."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=0)
    return np.arange(len(atoms)) % 3, atoms.positions, atoms.cell.array, atoms.pbc


def predictions(width: int, depth: int, forces: str = "conservative", name: str = "egnn"):
    torch.manual_seed(0)
    config = family(name)(width=width, depth=depth, forces=forces)
    model = build(config, num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0).train()
    batch = graphs(*(crystal(0) if name == "egnn" else rattled()))
    batch = type(batch)(**{**vars(batch), "x_N3": batch.x_N3.float(), "shift_E3": batch.shift_E3.float()})
    return model, batch, *model(batch)


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("depth", [1, 2, 8])
@pytest.mark.parametrize("width", [8, 64, 512])
def test_new_network_predicts_forces_neither_vanishing_nor_huge(width, depth, forces):
    *_, forces_N3 = predictions(width, depth, forces)
    assert 0.01 < forces_N3.square().mean().sqrt() < 10


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("depth", [1, 6])
@pytest.mark.parametrize("width", [8, 128])
@pytest.mark.parametrize("name", ["dimenetpp", "gemnet_t"])
def test_new_triplet_model_predicts_forces_of_a_crystal_neither_vanishing_nor_huge(name, width, depth, forces):
    *_, forces_N3 = predictions(width, depth, forces, name)
    assert 0.01 < forces_N3.square().mean().sqrt() < 10


@pytest.mark.parametrize("depth", [1, 8])
def test_gradient_of_the_first_layer_is_of_the_size_of_the_last(depth):
    model, batch, energy_G, forces_N3 = predictions(32, depth)
    model(batch, (2 * energy_G, 2 * forces_N3))[0].backward()
    first, last = model.trunk.layers[0], model.trunk.layers[-1]
    ratio = first.messages.second.grad.norm() / last.messages.second.grad.norm()
    assert 0.05 < ratio < 20
