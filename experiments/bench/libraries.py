"""Readers and a relaxer of our own beside the libraries that could take their place: harm, memory and time.

LMDB: files with one damaged leaf page, read whole. Pickles: two hostile records of a few bytes, and records like those
of OC20. JSON: an object nested 10^7 deep, and members as MPtrj has them (ijson, if it is installed). Relaxation:
rattled alloys, all at once and one by one by ase.optimize.LBFGS, with one network.
"""

import io
import json
import multiprocessing
import pickle
import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from ase.build import bulk
from ase.optimize import LBFGS
from torch_geometric.data import Data

from experiments.bench.table import options, publish
from scaling.data.formats import LmdbFile, loads, pieces
from scaling.data.sources.emt import FastNeighborsEMT
from scaling.use import by_calculator, relax

#: What a process that reads a hostile file may take.
MEMORY_BYTES = 4 * 2**30
LEAF = 2


def _limited(work: Callable[..., Any], arguments: tuple[Any, ...], result: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    try:
        work(*arguments)
        how = "read"
    except BaseException as error:
        how = type(error).__name__
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result.put((how, time.perf_counter() - begin, 1024 * grown))


def ending(work: Callable[..., Any], *arguments: Any, seconds: float = 20.0) -> dict[str, Any]:
    """How a call ends in a process of its own: `read`, the name of an exception, a signal, or out of time."""
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    process = context.Process(target=_limited, args=(work, arguments, result))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        return {"ended": f"not within {seconds:g} s"}
    if process.exitcode:
        return {"ended": f"signal {-process.exitcode}"}
    how, taken, grown = result.get()
    return {"ended": how, "seconds": round(taken, 3), "grown_mb": round(grown / 2**20)}


def write_lmdb(path: Path, num_records: int) -> None:
    with lmdb.open(str(path), subdir=False, map_size=2**28, lock=False) as env, env.begin(write=True) as transaction:
        for number in range(num_records):
            transaction.put(str(number).encode(), random.Random(number).randbytes(200))


def read_by_library(path: Path, num_records: int) -> None:
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as transaction:
        for number in range(num_records):
            transaction.get(str(number).encode())


def read_by_ours(path: Path, num_records: int) -> None:
    with LmdbFile(path) as file:
        for number in range(num_records):
            file.get(str(number).encode(), 2**20)


def damaged_lmdb(num_files: int) -> list[dict[str, Any]]:
    """One leaf page of each file has eight random bytes in its head and its table of nodes."""
    readers = {"lmdb": read_by_library, "ours": read_by_ours}
    ended: dict[str, dict[str, int]] = {name: {} for name in readers}
    num_records = 2000
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.lmdb"
        write_lmdb(whole, num_records)
        content = whole.read_bytes()
        starts = [k for k in range(0, len(content), 4096) if int.from_bytes(content[k + 10 : k + 12], "little") == LEAF]
        for number in range(num_files):
            draw, broken = random.Random(number), bytearray(content)
            start = draw.choice(starts[1:])
            for _ in range(8):
                broken[start + draw.randrange(8, 64)] = draw.randrange(256)
            path = Path(folder) / "broken.lmdb"
            path.write_bytes(broken)
            for name, reader in readers.items():
                how = ending(reader, path, num_records)["ended"]
                kind = "signals" if how.startswith(("signal", "not")) else "errors" if how != "read" else "read"
                ended[name][kind] = ended[name].get(kind, 0) + 1
        rates = {name: _rate(partial(reader, whole, num_records), num_records) for name, reader in readers.items()}
    return [{"reader": name, "files": num_files, **ended[name], "records_per_s": rates[name]} for name in readers]


def _rate(work: Callable[[], Any], count: float) -> int:
    """Things done per second of this process."""
    begin = time.process_time()
    work()
    return round(count / (time.process_time() - begin))


class _Stubs(pickle.Unpickler):
    """What would take the place of ours: C's unpickler with a table of names."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("torch_geometric"):
            return type(name, (dict,), {"__setstate__": lambda self, state: None})
        if f"{module}.{name}" == "torch.storage._load_from_bytes":
            return bytes
        if module.startswith("torch"):
            return lambda *arguments: arguments
        if f"{module}.{name}" == "collections.OrderedDict":
            return dict
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_stubs(content: bytes) -> Any:
    return _Stubs(io.BytesIO(content)).load()


def read_restricted(content: bytes) -> Any:
    return loads(content, "record")


def hostile_pickles() -> dict[str, bytes]:
    """A place in the memo far out, for which C makes room; and integers that all have one hash, as keys."""
    same_hash = b"".join(b"\x8a\x0b" + (k * (2**61 - 1) + 1).to_bytes(11, "little") + b"N" for k in range(60_000))
    return {"memo": b"\x80\x02Nr" + (2**29).to_bytes(4, "little") + b".", "keys": b"\x80\x02}(" + same_hash + b"u."}


def pickles(num_records: int, seconds: float) -> list[dict[str, Any]]:
    values = {"pos": torch.rand(70, 3), "force": torch.rand(70, 3), "y": 1.5, "atomic_numbers": torch.ones(70)}
    record = pickle.dumps(Data(**values), protocol=-1)
    rows = []
    for name, reader in {"pickle.Unpickler": read_stubs, "ours": read_restricted}.items():
        row: dict[str, Any] = {"reader": name}
        for case, content in hostile_pickles().items():
            found = ending(reader, content, seconds=seconds)
            row |= {f"{case}_{key}": value for key, value in found.items()}
        row["records_per_s"] = _rate(lambda read=reader: [read(record) for _ in range(num_records)], num_records)
        rows.append(row)
    return rows


def json_by_ours(path: Path) -> int:
    return sum(len(json.loads(text)) for _, text in pieces(path))


def json_by_cutting(path: Path) -> int:
    """What one process has to do where many parse."""
    return sum(1 for _ in pieces(path))


def json_by_ijson(path: Path) -> int:
    import ijson

    with path.open("rb") as stream:
        return sum(1 for _ in ijson.kvitems(stream, "", use_float=True))


def streams(num_members: int, depth: int) -> list[dict[str, Any]]:
    readers = {"ours, cut and parsed": json_by_ours, "ours, cut": json_by_cutting}
    if find_spec("ijson"):
        import ijson

        readers[f"ijson, {ijson.backend}"] = json_by_ijson
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        deep, plain = Path(folder) / "deep.json", Path(folder) / "plain.json"
        deep.write_text('{"a": ' + "[" * depth + "]" * depth + "}")
        member = {"structure": {"sites": [{"xyz": rng.random(3).tolist(), "species": "Cu"} for _ in range(30)]}}
        plain.write_text(json.dumps({f"mp-{number}": member for number in range(num_members)}))
        mb = plain.stat().st_size / 2**20
        rows = []
        for name, reader in readers.items():
            found = {f"deep_{key}": value for key, value in ending(reader, deep).items()}
            rows.append({"reader": name, **found, "mb_per_s": _rate(partial(reader, plain), mb)})
    return rows


def relaxations(num_structures: int) -> list[dict[str, Any]]:
    """Calls count: a network takes many structures in one, where ASE gives it one at a time. EMT stands for it here."""
    rng = np.random.default_rng(0)
    systems = []
    for _ in range(num_structures):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
        systems.append(atoms)
    calculator = FastNeighborsEMT()
    calls = []

    def counted(batch: Any) -> Any:
        calls.append(len(batch))
        return by_calculator(calculator)(batch)

    found = relax(systems, counted, fmax=0.01, max_steps=300)
    steps = 0
    for atoms in systems:
        atoms.calc = FastNeighborsEMT()
        with LBFGS(atoms, logfile=None) as optimizer:
            optimizer.run(fmax=0.01, steps=300)
            steps += optimizer.nsteps + 1
    energies = np.array([atoms.get_potential_energy() for atoms in systems])
    apart = max(abs(energies - np.array([each.energy_ev for each in found])))
    return [
        {"relaxer": "ours", "calls_of_the_network": len(calls), "structures_evaluated": sum(calls), "apart_ev": apart},
        {"relaxer": "ase", "calls_of_the_network": steps, "structures_evaluated": steps, "apart_ev": 0.0},
    ]


def main() -> None:
    chosen = options(__doc__).parse_args()
    quick = chosen.quick
    tables = {
        "LMDB: files with a damaged leaf page": damaged_lmdb(20 if quick else 300),
        "Pickles: hostile records, and OC20's": pickles(200 if quick else 5000, 2.0 if quick else 20.0),
        "JSON: deep nesting, and members as of MPtrj": streams(500 if quick else 20_000, 10**5 if quick else 10**7),
        "Relaxation: rattled copper": relaxations(4 if quick else 64),
    }
    publish(tables, chosen.json)


if __name__ == "__main__":
    main()
