"""How fast structures come from the disk, beside an ASE-LMDB and an HDF5 group for each structure.

python -m experiments.bench.loader [--json FILE] [--quick]

The same structures, in the same shuffled order and batches, read by as many workers of the same kind and joined
by the same function; all in the page cache. The last row is a training at width 128 on one thread, with one worker that
builds neighbour lists (none are kept): the share of its time that it waits for batches.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ase.db
import h5py
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.bench.table import options, publish
from scaling.config import ZeroConfig
from scaling.data import ShardSet, StoredStructure
from scaling.data.loading import GraphDataset, Loader, MicroBatch, TrainSampler
from scaling.data.manifest import Rejected
from scaling.data.preparation import prepare
from scaling.data.source import PlainSource, slices
from scaling.models import build
from scaling.models.egnn import EGNNConfig
from scaling.optim import AdamWConfig
from scaling.structure import Structure
from scaling.training import Engine, World, to_graphs

STRUCTURES, QUICK_STRUCTURES = 9000, 300
ATOMS = 29
CUTOFF_ANG = 5.0
BATCH = 64
WORKERS = (1, 2)
WIDTH, DEPTH, STEPS = 128, 4, 40
REPEATS = 3


@dataclass(frozen=True)
class Rattled(PlainSource):
    """Rattled copper with labels drawn at random: of the size and density of a data set, and quickly made."""

    name: str = "rattled"
    count: int = STRUCTURES

    def num_expected(self) -> int:
        return self.count

    def tasks(self) -> Iterator[tuple[int, int]]:
        return slices(self.count, 256)

    def read(self, task: tuple[int, int]) -> Iterator[Structure | Rejected]:
        lattice: Atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        for number in range(*task):
            rng = np.random.default_rng(number)
            positions = lattice.positions[:ATOMS] + rng.normal(0, 0.15, (ATOMS, 3))
            yield Structure(
                numbers=rng.choice([13, 28, 29, 46, 47], ATOMS),
                positions=positions,
                cell=np.array(lattice.cell),
                pbc=np.ones(3, dtype=bool),
                energy=float(rng.normal()),
                forces=rng.normal(size=(ATOMS, 3)),
                group=f"g{number}",
                record=f"rattled#{number}",
            )


class Reader(Protocol):
    """Something that reads a structure by its number."""

    def read(self, index: int) -> StoredStructure: ...


class AseLmdb:
    """A database of ase-db-backends, as fairchem publishes its data; opened in the process that reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: Any = None

    def write(self, shards: ShardSet) -> None:
        with ase.db.connect(self.path, type="aselmdb") as db:
            for index in range(len(shards)):
                s = shards.read(index)
                atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
                atoms.calc = SinglePointCalculator(atoms, energy=s.energy, forces=s.forces)
                db.write(atoms)

    def read(self, index: int) -> StoredStructure:
        self._db = self._db or ase.db.connect(self.path, type="aselmdb", readonly=True)
        atoms = self._db.get(id=index + 1).toatoms()
        return StoredStructure(
            numbers=atoms.numbers.astype(np.uint8),
            positions=atoms.positions.astype(np.float32),
            cell=np.array(atoms.cell, dtype=np.float32),
            pbc=atoms.pbc,
            energy=float(atoms.calc.results["energy"]),
            forces=np.asarray(atoms.calc.results["forces"], dtype=np.float32),
            source=0,
        )


class HdfGroups:
    """One HDF5 group for each structure, as MACE keeps them; opened in the process that reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def write(self, shards: ShardSet) -> None:
        with h5py.File(self.path, "w") as file:
            for index in range(len(shards)):
                group, s = file.create_group(str(index)), shards.read(index)
                for name in ("numbers", "positions", "cell", "pbc", "energy", "forces"):
                    group[name] = getattr(s, name)

    def read(self, index: int) -> StoredStructure:
        self._file = self._file or h5py.File(self.path, "r", locking=False)
        group = self._file[str(index)]
        arrays = {name: group[name][()] for name in ("numbers", "positions", "cell", "pbc", "forces")}
        return StoredStructure(**arrays, energy=float(group["energy"][()]), source=0)


class Joined(Dataset[dict[str, Tensor]]):
    """Structures of a batch one after another, without neighbour lists."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        read = [self.reader.read(int(index)) for index in indices]
        names = ("numbers", "positions", "forces", "cell")
        joined = {name: torch.from_numpy(np.concatenate([getattr(s, name) for s in read])) for name in names}
        return {**joined, "energy": torch.tensor([s.energy for s in read])}


class Graphed(Dataset[Any]):
    """Batches of graphs as in a training."""

    def __init__(self, dataset: GraphDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: Sequence[int]) -> Any:
        return self.dataset[MicroBatch(tuple(indices), 1.0, True, 0)]


def graph_dataset(shards: ShardSet) -> GraphDataset:
    """As a run has it, but nothing is kept from one epoch to the next."""
    reference = np.zeros((1, len(shards.manifest.elements)))
    return GraphDataset(shards, cutoff_ang=CUTOFF_ANG, reference_ev=reference, loss_weight=np.ones(1), cache_mb=0)


def rate(dataset: Dataset[Any], count: int, workers: int) -> float:
    """Structures a second, of a pass over all in shuffled order; the start of the workers is left out."""
    order = np.random.default_rng(0).permutation(count)
    batches = [order[k : k + BATCH].tolist() for k in range(0, count, BATCH)]
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        prefetch_factor=4,
        multiprocessing_context="fork",
    )
    coming = iter(loader)
    for _ in range(2 * workers):
        next(coming)
    begin = time.perf_counter()
    done = sum(BATCH for _ in coming)
    return done / (time.perf_counter() - begin)


def measure_reading(folder: Path, count: int) -> list[dict[str, Any]]:
    """A row for each way of storing and number of workers; ways take turns."""
    prepare(Rattled(count=count), folder / "shards", progress=False)
    shards = ShardSet(folder / "shards")
    lmdb, groups = AseLmdb(folder / "structures.aselmdb"), HdfGroups(folder / "structures.h5")
    lmdb.write(shards)
    groups.write(shards)
    for other in (lmdb, groups):  # opened here, so that a worker cannot inherit the handle
        _same(shards.read(7), type(other)(other.path).read(7))
    ways: dict[str, Dataset[Any]] = {
        "shards": Joined(shards),
        "ASE-LMDB": Joined(lmdb),
        "an HDF5 group a structure": Joined(groups),
        "shards, with neighbour lists": Graphed(graph_dataset(shards)),
    }
    rows = []
    for workers in WORKERS:
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, dataset in ways.items():
                rates[name].append(rate(dataset, count, workers))
        best = {name: float(np.median(found)) for name, found in rates.items()}
        rows += [
            {
                "way": name,
                "workers": workers,
                "structures_per_s": found,
                "atoms_per_s": found * ATOMS,
                "times_ase_lmdb": found / best["ASE-LMDB"],
            }
            for name, found in best.items()
        ]
    return rows


def measure_waiting(shards: ShardSet, steps: int) -> dict[str, Any]:
    """How long a training waits for its batches."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build(
        EGNNConfig(width=WIDTH, depth=DEPTH, forces="direct"),
        num_elements=len(shards.manifest.elements),
        cutoff_ang=CUTOFF_ANG,
        mean_degree=float(shards.num_edges.mean() / ATOMS),
        scale_ev=1.0,
    )
    engine = Engine(model, optim=AdamWConfig(), zero=ZeroConfig(), precision="fp32", world=World.join())
    sampler = TrainSampler(
        structures=np.arange(len(shards)),
        cost=shards.num_edges,
        batch_size=BATCH,
        seed=0,
        rank=0,
        num_ranks=1,
        max_edges=0,
        start=0,
        stop=steps,
    )
    waited = computed = 0.0
    batches = Loader(graph_dataset(shards), num_workers=1).batches(sampler)
    for step in range(steps):
        begin = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        found = engine.forward(to_graphs(batch))
        found.backward((found.forces_N3 - batch.forces).abs().mean() + found.energy_G.abs().mean(), is_last=True)
        engine.step(1e-4)
        if step >= min(5, steps // 2):  # the workers have started
            waited += ready - begin
            computed += time.perf_counter() - ready
    return {
        "width": WIDTH,
        "forces": "direct",
        "workers": 1,
        "ms_per_step": 1e3 * (waited + computed) / (steps - min(5, steps // 2)),
        "percent_waiting": 100 * waited / (waited + computed),
    }


def _same(one: StoredStructure, other: StoredStructure) -> None:
    for name in ("numbers", "positions", "cell", "pbc", "energy", "forces"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), f"{name} is not what was written"


def main() -> None:
    """Write the data three times, read it in turns, train on it."""
    given = options(__doc__).parse_args()
    count = QUICK_STRUCTURES if given.quick else STRUCTURES
    with tempfile.TemporaryDirectory() as name:
        rows = measure_reading(Path(name), count)
        waiting = measure_waiting(ShardSet(Path(name) / "shards"), 6 if given.quick else STEPS)
    publish({"Reading": rows, "Waiting for batches": [waiting]}, given.json)


if __name__ == "__main__":
    main()
