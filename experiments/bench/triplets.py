"""Angles without triplets, beside triplets listed one by one: DimeNet++ here and in torch-geometric.

python -m experiments.bench.triplets [--json FILE] [--quick]

Energies and forces of a cluster, and the gradient of the energies by the parameters, of networks of equal sizes in one
process by turns. torch-geometric's lists of neighbours and triplets, which need compiled packages, are made here and
not timed. Memory is that of tensors.

Shape suffixes: W triplets.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.bench.table import options, publish
from scaling.data.neighbors import neighbor_list
from scaling.models import Graphs, build
from scaling.models.dimenet import DimeNetPlusPlusConfig
from scaling.planning.batches import CUTOFF_ANG
from tests.reference.counters import PeakTensors
from tests.reference.triplets import triplets


def listed(graphs: Graphs) -> tuple[Tensor, ...]:
    """As torch-geometric lists them: i, j of edges j -> i; i, j, k of triplets k -> j -> i; which edges these are."""
    kj_W, ji_W = triplets(graphs.edges)
    ends = graphs.dst_E[ji_W], graphs.src_E[ji_W], graphs.src_E[kj_W]
    return graphs.dst_E, graphs.src_E, *ends, kj_W, ji_W


def cluster(num_atoms: int, seed: int = 0) -> Graphs:
    """Atoms of a jittered cubic lattice, 2.2 angstrom apart."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(num_atoms ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), -1).reshape(-1, 3)[:num_atoms]
    x = 2.2 * lattice + rng.normal(scale=0.15, size=(num_atoms, 3))
    edge_index, _ = neighbor_list(x, np.zeros((3, 3)), np.zeros(3), CUTOFF_ANG)
    return Graphs(
        element_N=torch.from_numpy(rng.integers(1, 20, num_atoms)),
        x_N3=torch.from_numpy(x).float(),
        src_E=torch.from_numpy(edge_index[0].copy()),
        dst_E=torch.from_numpy(edge_index[1].copy()),
        shift_E3=torch.zeros(edge_index.shape[1], 3),
        graph_N=torch.zeros(num_atoms, dtype=torch.long),
        num_graphs=1,
    )


def measure(width: int, num_atoms: int, repeats: int) -> list[dict[str, Any]]:
    """Both networks' time and memory at a width."""
    from torch_geometric.nn.models import DimeNetPlusPlus, dimenet

    graphs = cluster(num_atoms)
    lists = listed(graphs)
    dimenet.radius_graph = lambda *_, **__: torch.stack([graphs.src_E, graphs.dst_E])
    dimenet.triplets = lambda *_, **__: lists
    sizes = {"hidden_channels": width, "int_emb_size": width // 2, "out_emb_channels": 2 * width}
    theirs = DimeNetPlusPlus(
        **sizes, out_channels=1, num_blocks=4, basis_emb_size=8, num_spherical=7, num_radial=6, cutoff=CUTOFF_ANG
    )
    config = DimeNetPlusPlusConfig(width=width, depth=4, num_radial=6)
    ours = build(config, num_elements=95, cutoff_ang=CUTOFF_ANG, mean_degree=30.0, scale_ev=1.0)

    def their_forces() -> None:
        x_N3 = graphs.x_N3.clone().requires_grad_()
        torch.autograd.grad(theirs(graphs.element_N, x_N3).sum(), x_N3)

    def their_gradient() -> None:
        torch.autograd.grad(theirs(graphs.element_N, graphs.x_N3).sum(), list(theirs.parameters()), allow_unused=True)

    def our_gradient() -> None:
        r_E3 = graphs.edges.differences(graphs.x_N3)
        energy = ours.energy_head(*ours.trunk(graphs.element_N, r_E3[None], graphs.edges)).sum()
        torch.autograd.grad(energy, list(ours.parameters()), allow_unused=True)

    rows = []
    for what, ways in (
        ("energies and forces", {"torch-geometric": their_forces, "here": lambda: ours(graphs)}),
        ("gradient by the parameters", {"torch-geometric": their_gradient, "here": our_gradient}),
    ):
        seconds, peaks = _by_turns(ways, repeats), {name: _peak(way) for name, way in ways.items()}
        rows.append(
            {
                "width": width,
                "what": what,
                "edges": len(graphs.src_E),
                "triplets": len(lists[-1]),
                **{f"{name.replace('-', '_')}_ms": 1e3 * value for name, value in seconds.items()},
                "times_as_fast": seconds["torch-geometric"] / seconds["here"],
                **{f"{name.replace('-', '_')}_peak_bytes": value for name, value in peaks.items()},
                "peak_percent": 100 * peaks["here"] / peaks["torch-geometric"],
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _by_turns(ways: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median of each one's times."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    return {name: sorted(values[1:])[repeats // 2] for name, values in seconds.items()}


def _peak(way: Callable[[], None]) -> int:
    with PeakTensors() as counter:
        way()
    return counter.peak


def main() -> None:
    """Measure widths on one thread."""
    given = options(__doc__).parse_args()
    torch.set_num_threads(1)
    cases = [(16, 40, 1)] if given.quick else [(32, 125, 5), (64, 125, 5), (128, 125, 5)]
    publish({"DimeNet++, four layers": [row for case in cases for row in measure(*case)]}, given.json)


if __name__ == "__main__":
    main()
