"""What each rank of test_gradients.py runs: the gradient and some steps of every combination, beside plain torch."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from experiments.bench.double_backward import left_to_autograd
from scaling.config import ModelConfig, OptimConfig, ZeroConfig
from scaling.data.neighbors import neighbor_list
from scaling.models import Graphs, Potential, build
from scaling.training.engine import Engine, World, construction

NUM_STRUCTURES, ATOMS, CUTOFF = 6, 4, 4.0


def batch(structures: range) -> tuple[Graphs, torch.Tensor]:
    """Random periodic structures as one graph, with force labels; the same whichever rank asks."""
    parts = []
    for k, i in enumerate(structures):
        rng = np.random.default_rng(i)
        cell = 3.6 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
        x = rng.random((ATOMS, 3)) @ cell
        edge_index, shifts = neighbor_list(x, cell, np.ones(3), CUTOFF)
        labels = rng.normal(size=(ATOMS, 3))
        parts.append((rng.integers(0, 3, ATOMS), x, edge_index + k * ATOMS, shifts @ cell, labels))
    element, x, edges, shift, labels = (list(column) for column in zip(*parts, strict=True))
    graphs = Graphs(
        element_N=torch.as_tensor(np.concatenate(element)),
        x_N3=torch.as_tensor(np.concatenate(x), dtype=torch.float32),
        src_E=torch.as_tensor(np.concatenate(edges, axis=1)[0]),
        dst_E=torch.as_tensor(np.concatenate(edges, axis=1)[1]),
        shift_E3=torch.as_tensor(np.concatenate(shift), dtype=torch.float32),
        graph_N=torch.arange(len(structures)).repeat_interleave(ATOMS),
        num_graphs=len(structures),
    )
    return graphs, torch.as_tensor(np.concatenate(labels), dtype=torch.float32)


def force_loss(forward, structures: range) -> torch.Tensor:
    """Forces alone: the energy term would hide errors of the force term a hundredfold."""
    graphs, labels = batch(structures)
    energy_G, forces_N3 = forward(graphs)
    return (forces_N3 - labels).square().sum() / NUM_STRUCTURES + 0.0 * energy_G.sum()


def network(forces: str, checkpointing: int) -> Potential:
    torch.manual_seed(0)
    config = ModelConfig(width=8, depth=3, forces=forces)
    return build(
        config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0, checkpointing=checkpointing
    ).train()


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The worst tensor's relative deviation."""
    floor = 1e-3 * max(value.norm() for value in expected.values())
    return max(float((found[k] - v).norm() / (v.norm() + floor)) for k, v in expected.items())


def plain_gradients(forces: str, scale: float = 1.0) -> dict[str, torch.Tensor]:
    model = left_to_autograd(network(forces, checkpointing=0))
    (scale * force_loss(model, range(NUM_STRUCTURES))).backward()
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    return zeros | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def shares(world: World) -> list[range]:
    """Two micro-batches for this rank, of unequal sizes over the ranks."""
    if world.size == 1:
        return [range(0, 4), range(4, 6)]
    return [range(0, 1), range(1, 4)] if world.rank == 0 else [range(4, 5), range(5, 6)]


def main() -> None:
    torch.set_num_threads(1)
    world = World.join()
    optim = OptimConfig(max_grad_norm=0.0)
    rows = []
    for forces in ("direct", "conservative"):
        expected = plain_gradients(forces)
        for stage in (0, 1, 2, 3):
            for checkpointing in (0, 1, 2):
                zero = ZeroConfig(stage, checkpointing)
                with construction(zero):
                    model = network(forces, checkpointing)
                engine = Engine(model, optim=optim, zero=zero, precision="fp32", world=world)
                parts = shares(world)
                for part in parts:
                    engine.backward(force_loss(engine.forward, part), is_last=part is parts[-1])
                gradients = engine.gradients()
                control = error(gradients, plain_gradients(forces, scale=1.001))
                rows.append([forces, stage, checkpointing, error(gradients, expected), control])
    if world.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
