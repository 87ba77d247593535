"""Losses of short seeded runs stay what they were: a change that is meant to change nothing changes none of them."""

import pytest

from tests.unit.training.runs import losses, trained

RECIPE = ["train.force_weight=0.3", "train.energy_weight=0.7", "optim.weight_decay=0.1"]
#: Other processors sum in another order, which twelve steps amplify; another seed is hundreds of times farther off.
TOLERANCE = 1e-4
#: Validation losses of steps 4, 8 and 12, the last training loss and the test loss.
GOLDEN = {
    "egnn": ([], [1.31089192, 1.05867716, 1.05059982, 1.22041839, 1.05926227]),
    "egnn, direct forces, stage 2, micro-batches": (
        ["model.forces=direct", "zero.stage=2", "train.max_edges=300"],
        [1.00117810, 1.13443098, 1.05382090, 1.24917174, 1.17451749],
    ),
    "gemnet_t": (
        ["model.name=gemnet_t", "model.depth=1", "optim.lr=0.002"],
        [1.02744835, 1.09741475, 1.14117901, 1.08048258, 1.02350270],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_are_those_of_before(name, tiny_data, tmp_path):
    overrides, golden = GOLDEN[name]
    assert losses(trained(tiny_data, tmp_path, [*RECIPE, *overrides])) == pytest.approx(golden, rel=TOLERANCE)


def test_another_seed_would_be_noticed(tiny_data, tmp_path):
    _, golden = GOLDEN["egnn"]
    assert losses(trained(tiny_data, tmp_path, [*RECIPE, "seed=1"])) != pytest.approx(golden, rel=10 * TOLERANCE)
