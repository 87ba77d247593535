"""Physics as properties: what energies and forces must do under the symmetries of space and of the lattice."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.neighbors import neighbor_list
from scaling.models import Graphs, Potential, build
from scaling.models.config import FAMILIES, family

CUTOFF = 4.0


def potential(forces: str, name: str = "egnn", depth: int = 3) -> Potential:
    torch.manual_seed(0)
    config = family(name)(width=8, depth=depth, forces=forces)
    return build(config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0).double().eval()


def crystal(seed: int, num_atoms: int = 5, pbc: tuple[bool, bool, bool] = (True, True, True)):
    """A random triclinic cell whose images matter: it is smaller than the cut-off."""
    rng = np.random.default_rng(seed)
    cell = 3.6 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3))
    x = rng.random((num_atoms, 3)) @ cell
    while shortest(x, cell, pbc) < 0.5:  # angstrom; radial functions of 1 / length lose digits nearer
        x = rng.random((num_atoms, 3)) @ cell
    return rng.integers(0, 3, num_atoms), x, cell, np.array(pbc)


def shortest(x, cell, pbc) -> float:
    edge_index, shifts = neighbor_list(x, cell, pbc, CUTOFF)
    return np.linalg.norm(x[edge_index[0]] + shifts @ cell - x[edge_index[1]], axis=1).min()


def graphs(element, x, cell, pbc) -> Graphs:
    edge_index, shifts = neighbor_list(x, cell, pbc, CUTOFF)
    return Graphs(
        element_N=torch.as_tensor(element),
        x_N3=torch.as_tensor(x),
        src_E=torch.as_tensor(edge_index[0]),
        dst_E=torch.as_tensor(edge_index[1]),
        shift_E3=torch.as_tensor(shifts @ cell),
        graph_N=torch.zeros(len(x), dtype=torch.long),
        num_graphs=1,
    )


def predict(model: Potential, *structure) -> tuple[float, np.ndarray]:
    energy_G, forces_N3 = model(graphs(*structure))
    return float(energy_G[0].detach()), forces_N3.detach().numpy()


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))  # of O(3): reflections too


models = pytest.mark.parametrize("name", FAMILIES)
both = pytest.mark.parametrize("forces", ["conservative", "direct"])
seeds = given(seed=st.integers(0, 10_000))
few = settings(max_examples=settings().max_examples // 2)


@models
@both
@seeds
@few
def test_rotation_turns_forces_and_leaves_energy(forces, name, seed):
    model, (element, x, cell, pbc), q = potential(forces, name), crystal(seed), rotation(seed)
    energy, force = predict(model, element, x, cell, pbc)
    turned_energy, turned_force = predict(model, element, x @ q.T, cell @ q.T, pbc)
    assert turned_energy == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(turned_force, force @ q.T, atol=1e-9)
    assert np.abs(turned_force - force).max() > 1e-6, "the control: forces do turn"


@models
@both
@seeds
@few
def test_translation_and_image_shift_change_nothing(forces, name, seed):
    model, (element, x, cell, pbc) = potential(forces, name), crystal(seed)
    rng = np.random.default_rng(seed)
    energy, force = predict(model, element, x, cell, pbc)
    moved = x + rng.normal(size=3) + rng.integers(-2, 3, size=x.shape) @ cell
    moved_energy, moved_force = predict(model, element, moved, cell, pbc)
    assert moved_energy == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(moved_force, force, atol=1e-9)


@models
@both
@seeds
@few
def test_permutation_permutes_forces(forces, name, seed):
    model, (element, x, cell, pbc) = potential(forces, name), crystal(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    energy, force = predict(model, element, x, cell, pbc)
    permuted_energy, permuted_force = predict(model, element[order], x[order], cell, pbc)
    assert permuted_energy == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(permuted_force, force[order], atol=1e-9)


@models
@both
@seeds
@few
def test_supercell_has_so_many_times_the_energy_and_the_same_forces(forces, name, seed):
    model, (element, x, cell, pbc) = potential(forces, name), crystal(seed, num_atoms=3)
    repeats = np.array([[i, j, 0] for i in range(2) for j in range(2)])
    big_x = (x[None] + (repeats @ cell)[:, None]).reshape(-1, 3)
    energy, force = predict(model, element, x, cell, pbc)
    big_energy, big_force = predict(model, np.tile(element, 4), big_x, cell * np.array([[2.0], [2.0], [1.0]]), pbc)
    assert big_energy == pytest.approx(4 * energy, abs=1e-9)
    np.testing.assert_allclose(big_force, np.tile(force, (4, 1)), atol=1e-9)


@models
@seeds
@few
def test_conservative_forces_are_minus_the_energys_finite_difference(name, seed):
    model, (element, x, cell, pbc) = potential("conservative", name), crystal(seed)
    _, force = predict(model, element, x, cell, pbc)
    direction = np.random.default_rng(seed).normal(size=x.shape)
    expected = -(force * direction).sum()

    def slope(step):
        ahead, _ = predict(model, element, x + step * direction, cell, pbc)
        behind, _ = predict(model, element, x - step * direction, cell, pbc)
        return (ahead - behind) / (2 * step)

    # Where a neighbour crosses the cut-off within the step the curvature jumps; a shorter step does not reach it.
    best = min((slope(step) for step in (1e-5, 3e-6, 1e-6)), key=lambda found: abs(found - expected))
    assert best == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert best != pytest.approx(1.001 * expected, rel=1e-5, abs=1e-9), "the control"


@models
def test_direct_forces_are_not_a_gradient(name):
    """The control of the finite differences: they do tell a force head from a gradient."""
    model, (element, x, cell, pbc) = potential("direct", name), crystal(1)
    _, force = predict(model, element, x, cell, pbc)
    ahead, _ = predict(model, element, x + 1e-5 * force, cell, pbc)
    behind, _ = predict(model, element, x - 1e-5 * force, cell, pbc)
    assert (ahead - behind) / 2e-5 != pytest.approx(-(force**2).sum(), rel=1e-2)


@models
@both
def test_energy_and_forces_are_continuous_where_a_neighbour_leaves_the_cutoff(forces, name):
    model = potential(forces, name)
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)

    def pair_and_spectator(length):
        x = np.array([[0.0, 0, 0], [length, 0, 0], [-2.0, 0.5, 0], [length + 2.0, 0.5, 0]])
        return predict(model, np.array([0, 1, 2, 2]), x, cell, pbc)

    inside, outside = pair_and_spectator(CUTOFF - 1e-5), pair_and_spectator(CUTOFF + 1e-5)
    nearer = pair_and_spectator(CUTOFF - 0.5)
    assert inside[0] == pytest.approx(outside[0], abs=1e-6)
    np.testing.assert_allclose(inside[1], outside[1], atol=1e-4)
    assert abs(nearer[0] - outside[0]) > 1e-5, "the control: the pair does interact"


@models
@both
def test_energies_of_separate_graphs_do_not_mix(forces, name):
    model = potential(forces, name)
    one, other = graphs(*crystal(1)), graphs(*crystal(2))
    joined = Graphs(
        element_N=torch.cat([one.element_N, other.element_N]),
        x_N3=torch.cat([one.x_N3, other.x_N3]),
        src_E=torch.cat([one.src_E, other.src_E + 5]),
        dst_E=torch.cat([one.dst_E, other.dst_E + 5]),
        shift_E3=torch.cat([one.shift_E3, other.shift_E3]),
        graph_N=torch.tensor([0] * 5 + [1] * 5),
        num_graphs=2,
    )
    energy_G, _ = model(joined)
    expected = torch.cat([model(one)[0], model(other)[0]])
    torch.testing.assert_close(energy_G, expected, atol=1e-12, rtol=0)
