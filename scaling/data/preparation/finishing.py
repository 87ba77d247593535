"""From the pieces of a draft to a prepared directory: every structure is read once, written, counted and hashed."""

import importlib.metadata
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.files import describe
from scaling.data.index import INDEX, index_rows, writing_rows
from scaling.data.manifest import COPIES, GROUPS, REJECTED, Manifest, Rejected, ShardFile, Source, write_manifest
from scaling.data.preparation.block import between, concatenate, select
from scaling.data.preparation.consistency import measure
from scaling.data.preparation.cutting import cut
from scaling.data.preparation.draft import Draft, disk_errors
from scaling.data.preparation.duplicates import REMEDIES, resolve
from scaling.data.preparation.statistics import label_statistics
from scaling.data.preparation.validation import Bounds
from scaling.data.shard_file import Columns, ContentDigest, file_sha256, write_shard
from scaling.data.shards import ShardSet
from scaling.data.source import StructureSource
from scaling.errors import DataError
from scaling.runs import write_atomic
from scaling.structure import FIELDS

MAX_HOLDOUTS = 255
#: Rejected records of one reason that stand in the manifest itself.
MAX_LISTED = 100
#: Reasons whose first record is told of where nothing is left.
MAX_REASONS_TOLD = 3
#: Settings that often are what a reason is about, those that the source has.
WAYS_OUT = {
    "missing energy": ("source.energy_key",),
    "missing forces": ("source.forces_key",),
    "missing group key": ("source.group_key",),
    "energy out of bounds": ("source.energy_unit", "bounds.max_energy_ev_per_atom"),
    "force out of bounds": ("source.force_unit", "bounds.max_force_ev_per_ang"),
    "atoms too close": ("bounds.min_distance_ang",),
    "isolated atom": ("bounds.cutoff_ang",),
    "stress out of bounds": ("source.stress_unit", "source.stress_key=none", "bounds.max_stress_ev_per_ang3"),
    "stress is not symmetric": ("source.stress_key=none",),
    "stress without a periodic direction": ("source.stress_key=none",),
    "charge and spin disagree": ("source.charge_key=none", "source.spin_key=none"),
}


def finish(
    draft: Draft,
    source: StructureSource,
    origin: Source,
    bounds: Bounds,
    out: Path,
    max_atoms_per_shard: int,
    num_processes: int,
) -> None:
    """Take duplicates out and write shards, index, names of groups, what was rejected, and the manifest.

    Raises:
        DataError: if nothing is left, of the whole or of a part of a mixed set; the list of what was rejected then
            lies beside `out`.
        ConfigError: if groups cannot be cut as was asked for.
    """
    directory = draft.directory
    _clear(directory)
    duplicates = resolve(draft)
    notes = _Notes.write(draft, duplicates.conflicts, directory / REJECTED)
    if len(notes.holdouts) > MAX_HOLDOUTS:
        raise DataError(f"source {source.name} names {len(notes.holdouts)} held-out sets; {MAX_HOLDOUTS} can be")
    beside = out.with_name(f"{out.name}.{REJECTED}")
    if not duplicates.keep.any():
        raise _nothing_left(draft, source, origin, notes, beside)
    contents = _Contents(directory, int(duplicates.keep.sum()))
    with disk_errors(directory):
        statistics = label_statistics(
            contents.write(draft, duplicates.keep, tuple(notes.holdouts), max_atoms_per_shard)
        )
    parts, settings = tuple(source.parts()), {"cutoff_ang": bounds.cutoff_ang, "holdouts": tuple(notes.holdouts)}
    manifest = Manifest(
        digest="",
        num_structures=contents.num_structures,
        num_atoms=sum(shard.num_atoms for shard in contents.shards),
        elements=statistics.atomic_numbers,
        statistics=statistics.labels,
        **contents.counts(source, parts),
        **settings,
        units={name: spec.unit for name, spec in FIELDS.items() if spec.unit},
        parts=parts,
        source=origin,
        validation=asdict(bounds),
        num_duplicates=len(duplicates.copies),
        copies=_write_copies(directory / COPIES, duplicates.copies),
        **notes.fields(),
        labels=statistics.counts,
        num_states=statistics.num_states,
        created_by=f"gnn-scaling {_version()}",
    )
    blocks = cut(ShardSet(directory, manifest), source.group_blocks(), num_processes)
    digest = contents.digest.name(**settings, parts=parts, blocks=blocks)
    with disk_errors(directory):
        if not notes.reasons:
            (directory / REJECTED).unlink()
        write_manifest(directory, replace(manifest, blocks=blocks, digest=digest))
        beside.unlink(missing_ok=True)  # of an earlier try


def _clear(directory: Path) -> None:
    """Remove what an earlier try has finished of."""
    for stale in ("structures-*", "groups*", "index*", "rejected*", COPIES):
        for path in directory.glob(stale):
            path.unlink()


@dataclass
class _Notes:
    """What the pieces say besides structures; rejected records are in a file, the first of each reason also here."""

    holdouts: dict[str, None] = field(default_factory=lambda: {"": None})
    reasons: Counter[str] = field(default_factory=Counter)
    listed: list[Rejected] = field(default_factory=list)
    work: Any = 0.0
    notes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def write(cls, draft: Draft, conflicts: Sequence[Rejected], path: Path) -> "_Notes":
        """Gather them, and write the rejected records to `path`, one a line; those in conflict come last."""
        notes = cls(work=np.zeros((2, 4)))
        with disk_errors(path), path.open("w", encoding="utf-8") as lines:
            for piece in draft.pieces(structures=False):
                notes.notes += piece.notes
                notes.holdouts |= dict.fromkeys(piece.holdouts)
                notes.work = notes.work + piece.work
                notes._take(lines, (entry for _, entry in piece.rejected))
            notes._take(lines, conflicts)
        return notes

    def fields(self) -> dict[str, Any]:
        """Of a manifest, what they say."""
        return {
            "num_rejected": dict(self.reasons.most_common()),
            "rejected": tuple(self.listed),
            "consistency": measure(self.work[0]),
            "stress_consistency": measure(self.work[1]),
            "notes": dict(self.notes.most_common(MAX_LISTED)),
        }

    def _take(self, lines: IO[str], rejected: Iterable[Rejected]) -> None:
        for entry in rejected:
            self.reasons[entry.reason] += 1
            if self.reasons[entry.reason] <= MAX_LISTED:
                self.listed.append(entry)
            lines.write(json.dumps(asdict(entry)) + "\n")


def _write_copies(path: Path, copies: Sequence[tuple[str, str]]) -> ShardFile | None:
    """List what was dropped, and of what it is a copy; no file where nothing was.

    Raises:
        DataError: if the disk is full or the directory cannot be written.
    """
    if not copies:
        return None
    lines = (json.dumps({"record": record, "copy_of": kept}) + "\n" for record, kept in copies)
    with disk_errors(path):
        write_atomic(path, "".join(lines))
    return ShardFile(path.name, len(copies), 0, file_sha256(path), path.stat().st_size)


def _nothing_left(draft: Draft, source: StructureSource, origin: Source, notes: _Notes, listed_in: Path) -> DataError:
    """What was wrong with the first record of each reason, and the settings that may mend it; the list is kept."""
    draft.discard()
    if not notes.reasons:
        return DataError(f"source {source.name} left nothing to prepare: it was empty")
    with disk_errors(listed_in):
        os.replace(draft.directory / REJECTED, listed_in)
    told = []
    for reason, count in notes.reasons.most_common():
        words = f"{count} {reason}"
        if len(told) < MAX_REASONS_TOLD:
            first = next(entry for entry in notes.listed if entry.reason == reason)
            words += f" (the first: {': '.join(filter(None, (first.record, first.detail)))}"
            keys = [key for key in WAYS_OUT.get(reason, ()) if _is_setting(source, key)]
            words += (f"; see {' and '.join(keys)}" if keys else "") + ")"
            if reason in REMEDIES:
                words += f" ({REMEDIES[reason]})"
        told.append(words)
    files = f"; {describe(len(origin.files), origin.not_read)}" if origin.not_read else ""
    return DataError(
        f"source {source.name} left nothing to prepare: rejected {', '.join(told)}; "
        f"every rejected record is listed in {listed_in}{files}"
    )


def _is_setting(source: StructureSource, key: str) -> bool:
    owner, name = key.split(".")
    return owner != "source" or hasattr(source, name.partition("=")[0])


class _Contents:
    """The files of structures as they are written, and what follows from them."""

    def __init__(self, directory: Path, num_structures: int) -> None:
        self.directory, self.num_structures = directory, num_structures
        self.shards: list[ShardFile] = []
        self.digest = ContentDigest()

    def write(
        self, draft: Draft, keep: NDArray[np.bool_], holdouts: Sequence[str], max_atoms_per_shard: int
    ) -> Iterator[Columns]:
        """Write the shards, the index and the names of groups; yields the columns of each shard."""
        groups_path = self.directory / GROUPS
        with (
            writing_rows(self.directory / INDEX, self.num_structures) as write_index,
            groups_path.open("w", encoding="utf-8") as groups,
        ):
            for columns, names in _shards(draft, keep, holdouts, max_atoms_per_shard):
                self.shards.append(write_shard(self.directory / f"structures-{len(self.shards):05d}.h5", columns))
                groups.writelines(json.dumps(entry) + "\n" for entry in names.items())
                write_index(index_rows(columns))
                self.digest.add(columns)
                yield columns
            groups.flush()
            os.fsync(groups.fileno())

    def counts(self, source: StructureSource, parts: Iterable[Any]) -> dict[str, Any]:
        """Of a manifest, what the index says.

        Raises:
            DataError: if nothing is left of a part of a mixed set.
        """
        rows = np.load(self.directory / INDEX, mmap_mode="r")
        if empty := [part.name for number, part in enumerate(parts) if not (rows["source"] == number).any()]:
            raise DataError(f"source {source.name}: no structure of {', '.join(empty)} is left")
        return {
            "num_edges": int(rows["num_edges"].sum(dtype=np.int64)),
            "num_groups": len(np.unique(rows["group"])),
            "shards": tuple(self.shards),
            "index": self._file(INDEX),
            "groups": self._file(GROUPS),
        }

    def _file(self, name: str) -> ShardFile:
        path, num_atoms = self.directory / name, sum(shard.num_atoms for shard in self.shards)
        return ShardFile(name, self.num_structures, num_atoms, file_sha256(path), path.stat().st_size)


def _shards(
    draft: Draft, keep: NDArray[np.bool_], holdouts: Sequence[str], max_atoms: int
) -> Iterator[tuple[Columns, dict[int, str]]]:
    """What stays, cut anew: a shard ends with the structure that fills it. With each the names of its groups."""
    waiting: list[dict[str, Any]] = []
    names: dict[int, str] = {}
    first = 0

    def of(columns: Columns) -> tuple[Columns, dict[int, str]]:
        return columns, {group: names[group] for group in dict.fromkeys(columns["group"].tolist())}

    for block in draft.pieces():
        names |= block.groups
        columns = block.columns | {"holdout": block.holdout_among(holdouts)}
        waiting.append(select(columns, keep[first : first + len(block)]))
        first += len(block)
        joined = concatenate(waiting)
        ends = joined["offsets"][1:]
        done = 0
        while len(ends) and ends[-1] - joined["offsets"][done] >= max_atoms:
            stop = int(np.searchsorted(ends, joined["offsets"][done] + max_atoms)) + 1
            yield of(between(joined, done, stop))
            done = stop
        waiting = [between(joined, done, len(ends))]
        names = {group: names[group] for group in set(waiting[0]["group"].tolist())}
    if len(waiting[0]["energy"]):
        yield of(waiting[0])


def _version() -> str:
    try:
        return importlib.metadata.version("gnn-scaling")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
