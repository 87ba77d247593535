"""Random periodic graphs of a given size, and a plain step on them, for measurements."""

from collections.abc import Callable

import numpy as np
import torch

from scaling.data.neighbors import neighbor_list
from scaling.models import Graphs, Potential

CUTOFF_ANG = 5.0
ATOMS = 100


def random_graphs(
    num_structures: int, *, mean_degree: float, seed: int = 0, num_atoms: int = ATOMS
) -> tuple[Graphs, torch.Tensor]:
    """Structures of `num_atoms` at random places in periodic cubes, and forces to learn (N, 3)."""
    rng = np.random.default_rng(seed)
    side = (num_atoms * 4 / 3 * np.pi * CUTOFF_ANG**3 / mean_degree) ** (1 / 3)
    cell = side * np.eye(3)
    positions = rng.random((num_structures, num_atoms, 3)) * side
    lists = [neighbor_list(x, cell, np.ones(3), CUTOFF_ANG) for x in positions]
    edges = np.concatenate([edge_index + k * num_atoms for k, (edge_index, _) in enumerate(lists)], axis=1)
    shifts = np.concatenate([shift @ cell for _, shift in lists])
    graphs = Graphs(
        element_N=torch.from_numpy(rng.integers(0, 5, num_structures * num_atoms)),
        x_N3=torch.from_numpy(positions.reshape(-1, 3)).float(),
        src_E=torch.from_numpy(edges[0].copy()),
        dst_E=torch.from_numpy(edges[1].copy()),
        shift_E3=torch.from_numpy(shifts).float(),
        graph_N=torch.arange(num_structures).repeat_interleave(num_atoms),
        num_graphs=num_structures,
    )
    return graphs, torch.from_numpy(rng.normal(size=(num_structures * num_atoms, 3))).float()


def backward(model: Potential, graphs: Graphs, loss: Callable[..., torch.Tensor]) -> None:
    """The gradient of a loss of (energies, forces), in plain torch, for forces of both kinds."""
    outputs = model(graphs)
    if model.is_conservative:
        outputs = tuple(output.requires_grad_() for output in outputs)
        (scalar,) = model(graphs, torch.autograd.grad(loss(*outputs), outputs))
    else:
        scalar = loss(*outputs)
    scalar.backward()
