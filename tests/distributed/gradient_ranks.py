"""What each rank of test_gradients.py runs: the gradient and some steps of every combination, beside plain torch.

argv: file for the results; how many ranks share each batch; "all" ways to save memory, "few", or "quick" (few, with
fewer steps); the networks.
"""

import hashlib
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch

from scaling.config import ZeroConfig
from scaling.data.neighbors import neighbor_list
from scaling.launch.processes import end_at_once
from scaling.models import Graphs, Potential, build
from scaling.models.config import family
from scaling.optim.config import AdamWConfig
from scaling.training import engine as engine_module
from scaling.training.engine import Engine, construction
from scaling.training.world import World
from tests.reference.double_backward import left_to_autograd
from tests.unit.models.test_physics import shortest

NUM_STRUCTURES, ATOMS, CUTOFF = 10, 4, 4.0
STEPS, LR = 6 if "quick" in sys.argv else 20, 0.002
OPTIM = AdamWConfig(max_grad_norm=0.0, weight_decay=0.1)
engine_module.PERSISTENT = 0  # parameters of width 8 would stay whole, and stage 3 have nothing to do


def batch(structures: range) -> tuple[Graphs, torch.Tensor]:
    """Random periodic structures as one graph, with force labels, alike on all ranks; the last has one atom."""
    parts = []
    for k, i in enumerate(structures):
        atoms = ATOMS if i < NUM_STRUCTURES - 1 else 1
        rng = np.random.default_rng(i)
        cell = 3.6 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
        x = rng.random((atoms, 3)) @ cell
        while shortest(x, cell, np.ones(3)) < 1.5:  # angstrom; nearer ones cost digits and make twenty steps chaotic
            x = rng.random((atoms, 3)) @ cell
        edge_index, shifts = neighbor_list(x, cell, np.ones(3), CUTOFF)
        labels = rng.normal(size=(atoms, 3))
        parts.append((rng.integers(0, 3, atoms), x, edge_index + k * ATOMS, shifts @ cell, labels))
    element, x, edges, shift, labels = (list(column) for column in zip(*parts, strict=True))
    graphs = Graphs(
        element_N=torch.as_tensor(np.concatenate(element)),
        x_N3=torch.as_tensor(np.concatenate(x), dtype=torch.float32),
        src_E=torch.as_tensor(np.concatenate(edges, axis=1)[0]),
        dst_E=torch.as_tensor(np.concatenate(edges, axis=1)[1]),
        shift_E3=torch.as_tensor(np.concatenate(shift), dtype=torch.float32),
        graph_N=torch.arange(len(structures)).repeat_interleave(torch.tensor([len(z) for z in element])),
        num_graphs=len(structures),
    )
    return graphs, torch.as_tensor(np.concatenate(labels), dtype=torch.float32)


def force_loss(energy_G: torch.Tensor, forces_N3: torch.Tensor, labels_N3: torch.Tensor) -> torch.Tensor:
    """Forces alone: the energy term would hide errors of the force term a hundredfold."""
    return (forces_N3 - labels_N3).square().sum() / NUM_STRUCTURES + 0.0 * energy_G.sum()


def plain_loss(model: Potential) -> torch.Tensor:
    """The loss of the whole batch."""
    graphs, labels_N3 = batch(range(NUM_STRUCTURES))
    return force_loss(*model(graphs), labels_N3)


def network(name: str, forces: str, checkpointing: int) -> Potential:
    torch.manual_seed(0)
    config = family(name)(width=8, depth=3 if name == "egnn" else 2, forces=forces)
    return build(
        config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0, checkpointing=checkpointing
    ).train()


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The worst tensor's relative deviation."""
    floor = 1e-3 * max(value.norm() for value in expected.values())
    return max(float((found[k] - v).norm() / (v.norm() + floor)) for k, v in expected.items())


def plain_gradients(name: str, forces: str, scale: float = 1.0) -> dict[str, torch.Tensor]:
    model = left_to_autograd(network(name, forces, checkpointing=0))
    (scale * plain_loss(model)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def plain_losses(name: str, forces: str, lr: float) -> torch.Tensor:
    """The losses of STEPS steps of torch's AdamW."""
    model = left_to_autograd(network(name, forces, checkpointing=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(OPTIM.beta1, OPTIM.beta2), weight_decay=0.1)
    losses = []
    for _ in range(STEPS):
        loss = plain_loss(model)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(losses)


def shares(world: World) -> list[range]:
    """Two micro-batches for this rank's group, of unequal sizes over the groups.

    Where ranks share them, the last holds the structure of one atom alone: all ranks but one have nothing of it.
    """
    cuts = np.linspace(0, NUM_STRUCTURES, 2 * world.data_size + 1).astype(int)
    if world.group.size > 1:
        cuts[-2] = NUM_STRUCTURES - 1
    return [range(cuts[k], cuts[k + 1]) for k in (2 * world.data_rank, 2 * world.data_rank + 1)]


def accumulate(engine: Engine) -> float:
    """Forward and backward of a whole batch in two micro-batches; returns its loss over all ranks."""
    parts = shares(engine.world)
    total = torch.zeros(1, dtype=torch.float64)
    for part in parts:
        graphs, labels_N3 = batch(part)
        found = engine.forward(graphs.divided(engine.world.group))
        loss = force_loss(found.energy_G, found.forces_N3, labels_N3)
        total += loss.item() * engine.world.speaks_for_group
        found.backward(loss, is_last=part is parts[-1])
    return float(engine.world.sum(total))


def losses(engine: Engine) -> torch.Tensor:
    found = []
    for _ in range(STEPS):
        found.append(accumulate(engine))
        engine.step(LR)
    return torch.tensor(found)


def is_same_everywhere(engine: Engine) -> bool:
    """Whether all ranks hold the same weights, to the last bit."""
    state = hashlib.sha256()
    for parameter in engine.module.parameters():
        with engine._gathered(parameter, writable=False):
            state.update(parameter.detach().numpy().tobytes())
    found: list[str | None] = [None] * engine.world.size
    torch.distributed.all_gather_object(found, state.hexdigest())
    return len(set(found)) == 1


def deviation(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected) / expected).abs().max())


def main() -> None:
    torch.set_num_threads(1)
    out, graph, which, *names = sys.argv[1:]
    world = World.join(int(graph))
    ways = [(0, False), (1, False), (2, False), (1, True)] if which == "all" else [(1, False)]
    rows = []
    for name, forces in product(names, ("direct", "conservative")):
        expected = plain_gradients(name, forces)
        thousandth_off = plain_gradients(name, forces, scale=1.001)
        expected_losses, hundredth_off = plain_losses(name, forces, LR), plain_losses(name, forces, 1.01 * LR)
        for stage, (checkpointing, offload) in product((0, 1, 2, 3) if which == "all" else (2, 3), ways):
            zero = ZeroConfig(stage, checkpointing, offload and stage > 0)

            def engine(zero: ZeroConfig = zero, name: str = name, forces: str = forces) -> Engine:
                with construction(zero):
                    model = network(name, forces, zero.checkpointing)
                return Engine(model, optim=OPTIM, zero=zero, precision="fp32", world=world)

            once, long = engine(), engine()
            assert not any(getattr(p, "ds_persist", False) for p in once.module.parameters())
            accumulate(once)
            gradients, trajectory = once.gradients(), losses(long)
            rows.append(
                {
                    "case": f"{name}, {forces}, stage {stage}, checkpointing {checkpointing}, offload {zero.offload}",
                    "gradient_error": error(gradients, expected),
                    "gradient_control": error(gradients, thousandth_off),
                    "loss_error": deviation(trajectory, expected_losses),
                    "loss_control": deviation(trajectory, hundredth_off),
                    "same_weights": is_same_everywhere(long),
                }
            )
    if world.rank == 0:
        Path(out).write_text(json.dumps(rows))
    world.leave()
    end_at_once()


if __name__ == "__main__":
    main()
