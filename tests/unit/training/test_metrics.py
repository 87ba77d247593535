"""The errors that a run reports."""

import dataclasses

import pytest
import torch

from scaling.training.losses import Errors
from scaling.training.metrics import METRICS, Means, Sums


def predictions():
    """Two structures, of two atoms and of one: predicted and true energies and forces, in float64."""
    true = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]], dtype=torch.float64)
    predicted = torch.tensor([[2.0, 0, 0], [2, 2, 0], [0, 0, 0.02]], dtype=torch.float64)
    return Errors.of(
        torch.tensor([1.5, -3.0], dtype=torch.float64),
        predicted,
        true_energy_G=torch.tensor([1.0, -3.01], dtype=torch.float64),
        true_forces_N3=true,
        graph_N=torch.tensor([0, 0, 1]),
        num_atoms_G=torch.tensor([2, 1]),
    )


def test_means_are_those_computed_by_hand():
    means = Means.of(Sums.of(predictions()))
    assert means.num_structures == 2
    assert means["energy_mae_ev"] == pytest.approx((0.5 + 0.01) / 2)
    assert means["energy_mae_ev_per_atom"] == pytest.approx((0.25 + 0.01) / 2)
    assert means["force_mae_ev_per_ang"] == pytest.approx((1 + 2 + 0.02) / 9)
    assert means["force_cosine"] == pytest.approx((1 + 0.5**0.5 + 0) / 3), "an atom without a true force counts 0"
    assert means["efwt"] == 0.5


@pytest.mark.parametrize(
    ("energy", "force", "within"),
    [(0.019, 0.029, 1), (0.021, 0.029, 0), (0.019, 0.031, 0), (-0.021, 0, 0), (0, -0.031, 0), (0, float("nan"), 0)],
)
def test_structure_is_within_thresholds_by_total_energy_and_largest_component(energy, force, within):
    forces = torch.full((2, 3), 0.029)  # by norm 0.05: only components count
    forces[1, 2] = force
    errors = Errors.of(
        torch.tensor([energy]),
        forces,
        true_energy_G=torch.zeros(1),
        true_forces_N3=torch.zeros(2, 3),
        graph_N=torch.zeros(2, dtype=torch.int64),
        num_atoms_G=torch.tensor([2]),
    )
    assert errors.is_within_G.tolist() == [within]


def test_sums_of_parts_add_up_to_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    num_atoms = [1, 4, 2, 7]
    forces = torch.randn(14, 3, generator=generator) * 0.03
    energies = torch.randn(4, generator=generator) * 0.02

    def sums(first, last):
        atoms = slice(sum(num_atoms[:first]), sum(num_atoms[:last]))
        sizes = torch.tensor(num_atoms[first:last])
        errors = Errors.of(
            energies[first:last],
            forces[atoms],
            true_energy_G=torch.zeros(last - first),
            true_forces_N3=forces[atoms].roll(1, 1),
            graph_N=torch.repeat_interleave(torch.arange(last - first), sizes),
            num_atoms_G=sizes,
        )
        return Sums.of(errors)

    whole, parts = sums(0, 4), [sums(0, 1), sums(1, 3), sums(3, 4)]
    assert whole.named().keys() >= {"structures", "atoms", *METRICS}
    assert torch.allclose(whole.vector, sum(parts, Sums.zero()).vector, rtol=1e-12, atol=0)
    assert not torch.allclose(whole.vector, (parts[0] + parts[1]).vector, rtol=1e-3)


def test_opposite_forces_have_the_cosine_minus_one_and_no_forces_none():
    errors = predictions()
    turned = dataclasses.replace(errors, forces_N3=-errors.true_forces_N3)
    assert turned.cosine_G.tolist() == [-1.0, 0.0]
    nothing = dataclasses.replace(errors, forces_N3=torch.zeros(3, 3))
    assert nothing.cosine_G.tolist() == [0.0, 0.0]
