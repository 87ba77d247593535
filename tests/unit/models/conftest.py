"""What several tests of networks compute on."""

import pytest
import torch

from scaling.models import Graphs
from tests.unit.models.test_physics import crystal, graphs


@pytest.fixture
def batch() -> Graphs:
    """Two small cells, whose atoms meet their own images and several of each neighbour; and an atom without edges."""
    one, other = graphs(*crystal(1)), graphs(*crystal(2, num_atoms=3))
    return Graphs(
        element_N=torch.cat([one.element_N, other.element_N, torch.tensor([0])]),
        x_N3=torch.cat([one.x_N3, other.x_N3, torch.zeros(1, 3)]),
        src_E=torch.cat([one.src_E, other.src_E + 5]),
        dst_E=torch.cat([one.dst_E, other.dst_E + 5]),
        shift_E3=torch.cat([one.shift_E3, other.shift_E3]),
        graph_N=torch.tensor([0] * 5 + [1] * 3 + [2]),
        num_graphs=3,
    )
