"""Sets that are larger than memory: how they open, what workers hold, how preparations end, and ten kills of one.

python -m experiments.bench.large_data [--json FILE] [--gigabytes 5] [--kills 10] [--quick]

The first set has twenty million structures: an index of its own, and shards that are all one file by different names.
The second is real, prepared once undisturbed and once under kill -9 at random moments, to the same digest. What one
process does alone at the end of a preparation is measured on pieces of a smaller set, over and over.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.bench.table import options, publish
from scaling.data import ShardSet
from scaling.data.index import INDEX, write_rows
from scaling.data.loading import GraphDataset, Loader, TrainSampler
from scaling.data.manifest import Rejected, Source, read_manifest, write_manifest
from scaling.data.preparation import Bounds, prepare, verify
from scaling.data.preparation.block import Block
from scaling.data.preparation.draft import Draft
from scaling.data.preparation.finishing import finish
from scaling.data.preparation.pipeline import MAX_ATOMS_PER_SHARD
from scaling.data.source import PlainSource, slices
from scaling.structure import Structure

ATOMS = 100
#: Few neighbours: what is measured is reading.
CUTOFF_ANG = 2.5
SIMULATED, QUICK_SIMULATED = 20_000_000, 200_000
BATCH = 32
WORKERS = 2
STEPS, QUICK_STEPS = 3000, 20
BEFORE_LAST = 0.85
#: Structures of a piece, and pieces: a gigabyte.
PIECE, PIECES = 5000, 80


@dataclass(frozen=True)
class Lattice(PlainSource):
    """Atoms near the points of a cubic lattice, with labels drawn at random: quickly made, none like another."""

    name: str = "lattice"
    count: int = 1000

    def num_expected(self) -> int:
        return self.count

    def tasks(self) -> Iterator[tuple[int, int]]:
        return slices(self.count, 500)

    def read(self, task: tuple[int, int]) -> Iterator[Structure | Rejected]:
        rng = np.random.default_rng(task[0])
        points = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)[:ATOMS] * 2.2
        for number in range(*task):
            yield Structure(
                numbers=rng.choice([13, 28, 29], ATOMS),
                positions=points + rng.uniform(-0.1, 0.1, (ATOMS, 3)),
                cell=np.eye(3) * 11.0,
                pbc=np.ones(3, dtype=bool),
                energy=float(rng.normal()),
                forces=rng.normal(size=(ATOMS, 3)),
                group=f"g{number // 10}",
                record=f"lattice#{number}",
            )


def simulate(folder: Path, count: int) -> Path:
    """A directory of `count` structures whose shards are links to one file."""
    prepare(
        Lattice(count=min(40_000, count // 10)), folder / "one", Bounds(CUTOFF_ANG), progress=False, num_processes=0
    )
    one = ShardSet(folder / "one")
    out = folder / "simulated"
    out.mkdir()
    (shard,) = one.manifest.shards
    times = count // len(one)
    names = [f"structures-{number:05d}.h5" for number in range(times)]
    for name in names:
        os.link(one.path / shard.file, out / name)
    rows = np.array(one.rows)
    write_rows(out / INDEX, (rows for _ in range(times)), times * len(rows))
    index = replace(one.manifest.index, num_structures=times * len(rows), bytes=(out / INDEX).stat().st_size)
    changes = {"num_structures": times * len(rows), "num_atoms": times * shard.num_atoms, "index": index}
    shards = tuple(replace(shard, file=name) for name in names)
    write_manifest(out, replace(one.manifest, shards=shards, **changes))
    return out


def measure_loading(directory: Path, steps: int) -> dict[str, Any]:
    """Open a set, go through some of it at random, and look at the workers."""
    begin = time.perf_counter()
    shards = ShardSet(directory)
    opened_s = time.perf_counter() - begin
    sampler = TrainSampler(
        structures=np.arange(len(shards), dtype=np.int32),
        cost=shards.num_edges,
        batch_size=BATCH,
        seed=0,
        rank=0,
        num_ranks=1,
        max_edges=0,
        start=0,
        stop=steps,
    )
    reference = np.zeros((1, len(shards.manifest.elements)))
    dataset = GraphDataset(shards, cutoff_ang=CUTOFF_ANG, reference_ev=reference, loss_weight=np.ones(1), cache_mb=64)
    most = {"resident": 0, "proportional": 0, "private": 0}
    begin = time.perf_counter()
    for step, _ in enumerate(Loader(dataset, num_workers=WORKERS).batches(sampler)):
        if step % 100 == 99 or step == steps - 1:
            for process in _children():
                for kind, held in _memory(process).items():
                    most[kind] = max(most[kind], held)
    return {
        "structures": len(shards),
        "bytes": sum(shard.bytes for shard in shards.manifest.shards),
        "seconds_to_open": opened_s,
        "structures_read": steps * BATCH,
        "structures_per_s": steps * BATCH / (time.perf_counter() - begin),
        "workers": WORKERS,
        "resident_bytes_of_a_worker": most["resident"],
        "proportional_bytes_of_a_worker": most["proportional"],
        "private_bytes_of_a_worker": most["private"],
    }


def _children() -> list[Path]:
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return [Path("/proc") / child for child in task.read_text().split()]


def _memory(process: Path) -> dict[str, int]:
    """Memory of a process: resident, that with shared pages divided among those that share them, and its own alone.

    A forked worker's resident pages are mostly its parent's; only the proportional figures add up to what is in use.
    """
    try:
        lines = [line.split() for line in (process / "smaps_rollup").read_text().splitlines()[1:]]
    except OSError:  # it has ended meanwhile
        return {}
    kib = {line[0].rstrip(":"): int(line[1]) for line in lines}
    kinds = {"resident": kib["Rss"], "proportional": kib["Pss"], "private": kib["Private_Clean"] + kib["Private_Dirty"]}
    return {kind: 1024 * held for kind, held in kinds.items()}


def measure_kills(folder: Path, count: int, kills: int) -> dict[str, Any]:
    """Prepare a set undisturbed, and again under random kills."""
    whole, killed = folder / "whole", folder / "killed"
    begin = time.monotonic()
    subprocess.run(_prepare(count, whole), check=True)
    undisturbed_s = time.monotonic() - begin
    shares = np.random.default_rng(0).uniform(size=kills)
    begin = time.monotonic()
    # Random moments that leave a part of the work for the last process, which is left alone.
    for seconds in tqdm(BEFORE_LAST * undisturbed_s * shares / shares.sum(), unit="kill", desc="kill -9"):
        process = subprocess.Popen(_prepare(count, killed))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"the preparation ended with {process.returncode} before it was killed")
    subprocess.run(_prepare(count, killed), check=True)
    found, expected = verify(killed), verify(whole)
    if found != expected:
        raise RuntimeError(f"{killed} is not what {whole} is: digests {found.digest} and {expected.digest}")
    shutil.rmtree(killed)
    return {
        "structures": expected.num_structures,
        "bytes": sum(shard.bytes for shard in expected.shards),
        "seconds_undisturbed": undisturbed_s,
        "kills": kills,
        "seconds_with_kills": time.monotonic() - begin,
        "same_digest": True,
    }


def measure_finishing(folder: Path, num_pieces: int) -> dict[str, Any]:
    """From pieces to shards, index, statistics, digest and manifest; this process's own time, the disk's left out."""
    source, bounds = Lattice(count=PIECE), Bounds(CUTOFF_ANG)
    block = Block.join([Block.of(source, bounds, task) for task in source.tasks()])
    work = folder / "finishing"
    work.mkdir()
    draft = Draft(work, {})
    for number in range(num_pieces):
        draft.add(replace(block, geometry=block.geometry + np.uint64(number)))
        draft.flush()
    begin = time.process_time()
    finish(draft, source, Source(source.name, {}, ()), bounds, work / "out", MAX_ATOMS_PER_SHARD, 1)
    manifest = read_manifest(work)
    row = {
        "structures": manifest.num_structures,
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "cpu_s": time.process_time() - begin,
    }
    shutil.rmtree(work)
    return row


def _prepare(count: int, out: Path) -> list[str]:
    return [sys.executable, "-m", "experiments.bench.large_data", "--prepare", str(count), str(out)]


def main() -> None:
    """Both sets, one after the other."""
    if sys.argv[1:2] == ["--prepare"]:
        prepare(Lattice(count=int(sys.argv[2])), sys.argv[3], Bounds(CUTOFF_ANG), num_processes=0, progress=False)
        return
    parser = options(__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of the real set")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary directory)")
    given = parser.parse_args()
    steps = QUICK_STEPS if given.quick else STEPS
    count = 3000 if given.quick else int(given.gigabytes * 1e9 / (25 * ATOMS))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        simulated = measure_loading(simulate(folder, QUICK_SIMULATED if given.quick else SIMULATED), steps)
        finishing = measure_finishing(folder, 2 if given.quick else PIECES)
        kills = measure_kills(folder, count, 2 if given.quick else given.kills)
        real = measure_loading(folder / "whole", steps)
    tables = {"Loading": [simulated, real], "Finishing": [finishing], "A preparation under kill -9": [kills]}
    publish(tables, given.json)


if __name__ == "__main__":
    main()
