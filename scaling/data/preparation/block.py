"""What a task of a source comes to: its valid structures as columns, and what was rejected."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.manifest import Rejected, group_id
from scaling.data.preparation.consistency import sums, work, work_of_stress
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.source import StructureSource
from scaling.structure import FIELDS, FloatArray, Structure


@dataclass(frozen=True)
class Block:
    """S valid structures of A atoms in all, in the order of the source.

    columns: every field of FIELDS, and offsets (S + 1,); `holdout` is an index into `holdouts` here.
    geometry: (S, 2) uint64, hash of each geometry. groups: names by stored id. holdouts: names, "" first.
    rejected: each with the number of valid structures before it. work: (2, 4) `consistency.sums` of forces and of
    stress. records: (S,) where each structure came from. notes: how many of the structures have each.
    """

    columns: dict[str, NDArray[Any]]
    geometry: NDArray[np.uint64]
    groups: dict[int, str]
    holdouts: tuple[str, ...]
    rejected: tuple[tuple[int, Rejected], ...]
    work: FloatArray
    records: tuple[str, ...]
    notes: Counter[str]

    def __len__(self) -> int:
        return len(self.geometry)

    @property
    def num_atoms(self) -> int:
        return int(self.columns["offsets"][-1])

    @classmethod
    def of(cls, source: StructureSource, bounds: Bounds, task: Any) -> "Block":
        """Read and validate one task."""
        accepted: list[Accepted] = []
        rejected: list[tuple[int, Rejected]] = []
        pairs: list[list[tuple[float, float]]] = [[], []]
        notes: Counter[str] = Counter()
        before: Structure | None = None
        for entry in source.read(task):
            outcome = entry if isinstance(entry, Rejected) else validate(entry, bounds)
            if isinstance(outcome, Rejected):
                rejected.append((len(accepted), outcome))
                continue
            assert isinstance(entry, Structure)
            if before is not None:
                for found, pair in zip(pairs, (work(before, entry), work_of_stress(before, entry)), strict=True):
                    found += [pair] if pair else []
            before = entry
            notes.update(entry.notes)
            accepted.append(outcome)
        total_work = np.stack([sums(np.array(found, dtype=np.float64).reshape(-1, 2)) for found in pairs])
        return cls._of_accepted(accepted, tuple(rejected), total_work, notes)

    @classmethod
    def _of_accepted(
        cls,
        accepted: Sequence[Accepted],
        rejected: tuple[tuple[int, Rejected], ...],
        total_work: FloatArray,
        notes: Counter[str],
    ) -> "Block":
        holdouts = ("", *dict.fromkeys(entry.holdout for entry in accepted if entry.holdout))
        ids = [group_id(entry.group) for entry in accepted]
        places = [holdouts.index(entry.holdout) for entry in accepted]
        rows = [e.row | {"group": g, "holdout": h} for e, g, h in zip(accepted, ids, places, strict=True)]
        columns = {}
        for name, spec in FIELDS.items():
            values = [np.asarray(row[name], dtype=spec.dtype) for row in rows]
            empty = np.zeros((0, *spec.shape), dtype=spec.dtype)
            join = np.concatenate if spec.per == "atom" else np.stack
            columns[name] = join(values) if values else empty  # type: ignore[operator]
        columns["offsets"] = np.cumsum([0, *(len(row["numbers"]) for row in rows)], dtype=np.int64)
        geometry = np.frombuffer(b"".join(entry.geometry for entry in accepted), dtype="<u8").reshape(-1, 2)
        groups = dict(zip(ids, (entry.group for entry in accepted), strict=True))
        records = tuple(entry.record for entry in accepted)
        return cls(columns, geometry, groups, holdouts, rejected, total_work, records, notes)

    def first(self, count: int) -> "Block":
        """The first structures, and what was rejected before the last of them."""
        keep = np.arange(len(self)) < count
        rejected = tuple((position, entry) for position, entry in self.rejected if position < count)
        columns = select(self.columns, keep)
        groups = {group: self.groups[group] for group in columns["group"].tolist()}
        records = self.records[:count]
        return Block(columns, self.geometry[keep], groups, self.holdouts, rejected, self.work, records, self.notes)

    @classmethod
    def join(cls, blocks: Sequence["Block"]) -> "Block":
        """One after the other."""
        holdouts = tuple(dict.fromkeys(name for block in blocks for name in ("", *block.holdouts)))
        parts = [block.columns | {"holdout": block.holdout_among(holdouts)} for block in blocks]
        rejected, before = [], 0
        for block in blocks:
            rejected += [(before + position, entry) for position, entry in block.rejected]
            before += len(block)
        groups = {group: name for block in blocks for group, name in block.groups.items()}
        geometry = np.concatenate([block.geometry for block in blocks])
        total_work = np.sum([block.work for block in blocks], axis=0)
        records = tuple(record for block in blocks for record in block.records)
        notes = sum((block.notes for block in blocks), Counter[str]())
        return cls(concatenate(parts), geometry, groups, holdouts, tuple(rejected), total_work, records, notes)

    def holdout_among(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """(S,) the holdout of each structure as an index into other names."""
        return np.array([names.index(name) for name in self.holdouts], dtype=np.uint8)[self.columns["holdout"]]

    def to_bytes(self, **head: Any) -> bytes:
        """As an .npz file; `head` comes back by `head_of`."""
        tables = {
            "head": head,
            "groups": {str(group): name for group, name in self.groups.items()},
            "holdouts": self.holdouts,
            "records": self.records,
            "notes": self.notes,
            "rejected": [(position, asdict(entry)) for position, entry in self.rejected],
        }
        texts = {name: np.frombuffer(json.dumps(table).encode(), dtype=np.uint8) for name, table in tables.items()}
        columns = {f"column_{name}": values for name, values in self.columns.items()}
        stream = io.BytesIO()
        np.savez(stream, geometry=self.geometry, work=self.work, **texts, **columns)
        return stream.getvalue()

    @classmethod
    def read(cls, path: Path, *, structures: bool = True) -> "Block":
        """What `to_bytes` made; without the structures if they are not needed, which is most of it."""
        with np.load(path, allow_pickle=False) as file:
            texts = {name: json.loads(file[name].tobytes()) for name in ("groups", "holdouts", "rejected", "notes")}
            records = json.loads(file["records"].tobytes()) if structures else ()
            return cls(
                {name: file[f"column_{name}"] for name in (*FIELDS, "offsets")} if structures else {},
                file["geometry"] if structures else np.zeros((0, 2), np.uint64),
                {int(group): name for group, name in texts["groups"].items()},
                tuple(texts["holdouts"]),
                tuple((position, Rejected(**entry)) for position, entry in texts["rejected"]),
                file["work"],
                tuple(records),
                Counter(texts["notes"]),
            )


def select(columns: dict[str, NDArray[Any]], keep: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The structures of columns where `keep` (S,) is true; the columns themselves if that is everywhere."""
    if keep.all():
        return columns
    num_atoms = np.diff(columns["offsets"])
    atoms = np.repeat(keep, num_atoms)
    chosen = {name: columns[name][atoms if spec.per == "atom" else keep] for name, spec in FIELDS.items()}
    return {**chosen, "offsets": np.concatenate([[0], np.cumsum(num_atoms[keep])]).astype(np.int64)}


def between(columns: dict[str, NDArray[Any]], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """The structures start .. stop - 1 of columns, which are not copied."""
    offsets = columns["offsets"][start : stop + 1]
    atoms = slice(int(offsets[0]), int(offsets[-1]))
    chosen = {name: columns[name][atoms if spec.per == "atom" else slice(start, stop)] for name, spec in FIELDS.items()}
    return {**chosen, "offsets": offsets - offsets[0]}


def concatenate(parts: Iterable[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Columns one after another."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}
    sizes = np.concatenate([np.diff(part["offsets"]) for part in parts])
    return {**joined, "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)}
