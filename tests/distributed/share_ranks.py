"""What each rank of test_shares.py runs: batches shared by a group of ranks, beside the same on one rank, in fp64.

argv: file for the results; "all" models in groups smaller than the world, or "quick": one.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from scaling.models import Graphs, Potential, build
from scaling.models.config import FAMILIES, family
from scaling.parallel import Arrival, Group
from tests.unit.models.test_physics import CUTOFF, crystal, graphs


def joined(*batches: Graphs) -> Graphs:
    """Several structures as one batch."""
    atoms, graph = 0, 0
    parts: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        moved = replace(batch, src_E=batch.src_E + atoms, dst_E=batch.dst_E + atoms, graph_N=batch.graph_N + graph)
        for name in ("element_N", "x_N3", "src_E", "dst_E", "shift_E3", "graph_N"):
            parts.setdefault(name, []).append(getattr(moved, name))
        atoms, graph = atoms + len(batch.element_N), graph + batch.num_graphs
    return Graphs(**{name: torch.cat(values) for name, values in parts.items()}, num_graphs=graph)


def lone(count: int) -> Graphs:
    """Atoms far from each other: no edge."""
    x = np.outer(50.0 * np.arange(count), np.ones(3))
    return graphs(np.zeros(count, dtype=int), x, np.zeros((3, 3)), np.zeros(3, dtype=bool))


def batches() -> dict[str, Graphs]:
    """Uneven ones, one smaller than a group, and one that leaves a rank without edges."""
    return {
        "three crystals": joined(*(graphs(*crystal(seed, size)) for seed, size in ((1, 5), (2, 2), (3, 6)))),
        "one atom": graphs(*crystal(4, 1)),
        "ranks without edges": joined(graphs(*crystal(5, 2)), lone(30)),
    }


def network(name: str, forces: str, checkpointing: int) -> Potential:
    torch.manual_seed(0)
    config = family(name)(width=6, depth=2, forces=forces, num_radial=5)
    model = build(
        config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0, checkpointing=checkpointing
    ).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * parameter.std().nan_to_num(1.0)
    return model


def step(model: Potential, batch: Graphs) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Energies, forces and this rank's part of the gradient."""
    energy_G, forces_N3 = outputs = model(batch)
    if model.is_conservative:
        outputs = tuple(output.requires_grad_() for output in outputs)
    loss = (outputs[0] - 1).square().sum() + (outputs[1] - 0.3).square().sum()
    if model.is_conservative:
        (loss,) = model(batch, torch.autograd.grad(loss, outputs))
    gradient = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return energy_G.detach(), forces_N3.detach(), [g.contiguous() for g in gradient]


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest deviation of any number, relative to the largest of its tensors."""
    largest = max(float(e.abs().max()) for e in expected if e.numel())
    return max(float((f - e).abs().max()) for f, e in zip(found, expected, strict=True) if e.numel()) / largest


def summed(parts: list[torch.Tensor], group: Group) -> list[torch.Tensor]:
    """Tensors added up over a group, in one exchange."""
    joined = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(joined, group=group.processes)
    return [part.view_as(like) for part, like in zip(joined.split([p.numel() for p in parts]), parts, strict=True)]


@contextmanager
def corrupted() -> Iterator[None]:
    """What arrives from other ranks is a millionth off."""
    right = Arrival.wait
    Arrival.wait = lambda self: right(self) * (1 + 1e-6)
    try:
        yield
    finally:
        Arrival.wait = right


def compared(batch: Graphs, model: Potential, alone: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]) -> dict:
    """How far a group's results lie from those of one rank."""
    group = batch.share.group
    energy, force, gradient = step(model, batch)
    with corrupted():
        off_energy, off_force, off = step(model, batch)
    gradient, off = (summed(parts, group) for parts in (gradient, off))
    edges = torch.zeros(group.size, dtype=torch.long)
    edges[group.rank] = len(batch.edges.src_E)
    dist.all_reduce(edges, group=group.processes)
    return {
        "energy_error": worst([energy], [alone[0]]),
        "force_error": worst([force], [alone[1]]) if alone[1].abs().max() > 1e-12 else float(force.abs().max()),
        "gradient_error": worst(gradient, alone[2]),
        "value_control": max(worst([off_energy], [alone[0]]), worst([off_force], [alone[1]])),
        "gradient_control": worst(off, alone[2]),
        "edges": edges.tolist(),
    }


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    rows = []
    for size in [size for size in range(2, world + 1) if world % size == 0]:
        group = Group.of(rank, world, size)
        models = tuple(FAMILIES) if size == world or sys.argv[2] == "all" else ("gemnet_t",)
        for (label, whole), name, forces in product(batches().items(), models, ("direct", "conservative")):
            alone = step(network(name, forces, 0), whole)
            for checkpointing in (0, 1) if "crystals" in label else (0,):
                case = f"{label}, {name}, {forces}, checkpointing {checkpointing}, {size} of {world}"
                model = network(name, forces, checkpointing)
                rows.append({"case": case, **compared(whole.divided(group), model, alone)})
    if rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
