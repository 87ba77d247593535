"""Several prepared directories as one set: their structures one after another, each with the part it came from.

Levels of theory differ by constants per atom, so each part gets reference energies of its own when a run is trained,
and a weight in the training loss. Units, sign and groups are those of the parts: a group keeps its name, so that a
group that two parts name alike falls to one side of a split. The same geometry in two parts, at two levels of theory
say, is kept in both; `leaks=DIR` finds those whose groups the parts name differently. Held-out sets of the same name
become one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling.data.manifest import MANIFEST, Blocks, CutGroup, Part, Rejected, group_id, group_names, read_manifest
from scaling.data.shards import ShardSet
from scaling.data.source import PlainSource, slices
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

MAX_PARTS = 255
_STRUCTURES_PER_TASK = 512


@dataclass(frozen=True)
class Mixed(PlainSource):
    """paths: prepared directories. weights: of each in the training loss, relative to one another; empty: all 1."""

    name: str = "mixed"
    paths: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.paths) > MAX_PARTS or len(set(self.paths)) < len(self.paths):
            raise ConfigError(f"source.paths={self.paths} must name up to {MAX_PARTS} different directories")
        if self.weights and (len(self.weights) != len(self.paths) or not all(0 < w < math.inf for w in self.weights)):
            raise ConfigError(f"source.weights={self.weights} must be {len(self.paths)} positive numbers, one a path")

    def identity(self) -> Mapping[str, Any]:
        return {"recipe": self.RECIPE, "weights": [part.weight for part in self.parts()]}

    def files(self) -> Mapping[str, Path]:
        if not self.paths:
            raise ConfigError("source.paths is not set; name prepared directories: 'source.paths=[DIR,DIR]'")
        return {f"{number} {Path(path).name}": Path(path) / MANIFEST for number, path in enumerate(self.paths)}

    def parts(self) -> Sequence[Part]:
        weights = self.weights or [1.0] * len(self.paths)
        parts = []
        for path, weight in zip(self.paths, weights, strict=True):
            manifest = read_manifest(Path(path))
            if len(manifest.parts) > 1:
                raise DataError(f"source.paths: {path} is mixed itself; name its parts")
            parts.append(Part(Path(path).name, weight, manifest.digest))
        return parts

    def group_blocks(self) -> int | Blocks | None:
        """As the parts are cut; a group of several parts is cut alike in all, into the longest blocks of any."""
        found: dict[int, CutGroup] = {}
        for path in self.paths:
            blocks = read_manifest(Path(path)).blocks
            for cut in () if blocks is None else blocks.groups:
                known = found.get(cut.group, cut)
                longest, widest = max(cut, known, key=lambda c: c.length), max(cut, known, key=lambda c: c.gap)
                found[cut.group] = replace(widest, length=longest.length)
        return Blocks(tuple(found[group] for group in sorted(found)), 0) if found else 0

    def num_expected(self) -> int | None:
        return sum(read_manifest(Path(path)).num_structures for path in self.paths)

    def tasks(self) -> Iterator[tuple[int, int, int]]:
        """Part, first structure, and the one after the last."""
        for part, path in enumerate(self.paths):
            for start, stop in slices(read_manifest(Path(path)).num_structures, _STRUCTURES_PER_TASK):
                yield part, start, stop

    def read(self, task: tuple[int, int, int]) -> Iterator[Structure | Rejected]:
        part, start, stop = task
        path = self.paths[part]
        shards, names = _opened(path, (Path(path) / MANIFEST).stat().st_mtime_ns)
        for index in range(start, stop):
            stored = shards.read(index)
            yield Structure(
                numbers=stored.numbers.astype("int64"),
                positions=stored.positions.astype("float64"),
                cell=stored.cell.astype("float64"),
                pbc=stored.pbc,
                energy=stored.energy,
                forces=None if stored.forces is None else stored.forces.astype("float64"),
                stress=None if stored.stress is None else stored.stress.astype("float64"),
                charge=stored.charge,
                spin=stored.spin,
                group=_name(shards, names, index),
                record=f"{shards.path.name}#{index}",
                holdout=shards.manifest.holdouts[shards.holdout[index]],
                source=part,
            )


def _name(shards: ShardSet, names: dict[int, str], index: int) -> str:
    group = int(shards.group[index])
    if group not in names or group_id(names[group]) != group:
        raise DataError(f"{shards.path}: the names of its groups are damaged; prepare it again")
    return names[group]


@lru_cache(maxsize=MAX_PARTS)
def _opened(path: str, written_ns: int) -> tuple[ShardSet, dict[int, str]]:
    """A part as it was written at that time."""
    return ShardSet(path), group_names(path)
