"""From a source to a prepared directory: validate, drop duplicates, write shards, account for every record."""

import fcntl
import importlib.metadata
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scaling.data import manifest as manifests
from scaling.data.manifest import MANIFEST, Manifest, Rejected, ShardFile, Source, SourceFile
from scaling.data.shards import ShardSet, content_digest, file_sha256, read_columns, write_shard
from scaling.data.sources import StructureSource
from scaling.data.statistics import label_statistics
from scaling.data.validation import Accepted, Bounds, validate
from scaling.errors import DataError
from scaling.structure import FIELDS

MAX_ATOMS_PER_SHARD = 4_000_000  # about 100 MB
MAX_HOLDOUTS = 255
GROUPS = "groups.json"


@dataclass(frozen=True)
class Prepared:
    """The manifest of a prepared directory, and whether it was there before."""

    manifest: Manifest
    already: bool


def prepare(
    source: StructureSource,
    out: str | os.PathLike[str],
    bounds: Bounds | None = None,
    *,
    max_atoms_per_shard: int = MAX_ATOMS_PER_SHARD,
    progress: bool = True,
) -> Prepared:
    """Prepare `out` from `source`; at once if it holds just that already, from the start if it was broken off.

    The work is done in `.NAME.partial` beside `out` and moved there when it is whole.

    Raises:
        DataError: if a source file cannot be read, nothing valid is left, `out` holds other data, or the disk
            cannot be written.
    """
    out, bounds = Path(out).absolute(), bounds or Bounds()
    origin = Source(source.name, dict(source.identity()), _checksums(source.files()))
    if present := _already_prepared(out, origin, bounds):
        return Prepared(present, already=True)
    with _writing(out) as partial:
        draft = _Draft(partial, bounds, max_atoms_per_shard)
        _fill(draft, source, progress)
        manifest = draft.finish(origin)
        try:
            os.rename(partial, out)
        except OSError as error:
            raise DataError(f"{partial} cannot be moved to {out}: {error.strerror}") from error
    return Prepared(manifest, already=False)


def verify(directory: str | os.PathLike[str]) -> Manifest:
    """Read every byte of a prepared directory and compare it with its manifest.

    Raises:
        DataError: naming the first file whose content differs.
    """
    shards = ShardSet(directory)
    for shard in shards.manifest.shards:
        if file_sha256(shards.path / shard.file) != shard.sha256:
            raise DataError(f"{shards.path / shard.file} is damaged: its checksum is not the manifest's; prepare again")
    paths = [shards.path / shard.file for shard in shards.manifest.shards]
    found = content_digest(paths, cutoff_ang=shards.manifest.cutoff_ang, holdouts=shards.manifest.holdouts)
    if found != shards.manifest.digest:
        raise DataError(f"{shards.path}: the content's digest is {found}, the manifest says {shards.manifest.digest}")
    return shards.manifest


def group_id(name: str) -> int:
    """The stored id of a group's key: its 64-bit hash, so that every source and version gives the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def group_names(directory: str | os.PathLike[str]) -> dict[int, str]:
    """Read the names of the groups of a prepared directory by their stored id, for reports.

    Raises:
        DataError: if the table is missing or damaged.
    """
    path = Path(directory) / GROUPS
    try:
        return {int(key): name for key, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error


@dataclass
class _Draft:
    """The prepared directory while it grows."""

    directory: Path
    bounds: Bounds
    max_atoms_per_shard: int
    rejected: list[Rejected] = field(default_factory=list)
    holdouts: list[str] = field(default_factory=lambda: [""])
    groups: dict[int, str] = field(default_factory=dict)
    num_duplicates: int = 0
    _buffer: list[dict[str, Any]] = field(default_factory=list)
    _buffered_atoms: int = 0
    _first_of_shard: list[int] = field(default_factory=lambda: [0])
    _kept: dict[bytes, tuple[int, bool]] = field(default_factory=dict)  # geometry -> (position, held out)
    _dropped: list[int] = field(default_factory=list)

    def add(self, entry: Accepted) -> None:
        """Take one valid structure in, unless its geometry is there; a held-out one displaces a free one."""
        position = self._first_of_shard[-1] + len(self._buffer)
        if entry.geometry in self._kept:
            self.num_duplicates += 1
            earlier, held_out = self._kept[entry.geometry]
            if held_out or not entry.holdout:
                return
            self._dropped.append(earlier)
        self._kept[entry.geometry] = (position, bool(entry.holdout))
        if entry.holdout not in self.holdouts:
            if len(self.holdouts) > MAX_HOLDOUTS:
                raise DataError(
                    f"{entry.record}: {entry.holdout!r} is one held-out set too many; {MAX_HOLDOUTS} can be"
                )
            self.holdouts.append(entry.holdout)
        group = group_id(entry.group)
        if (other := self.groups.setdefault(group, entry.group)) != entry.group:
            raise DataError(f"groups {other!r} and {entry.group!r} have one hash; rename one of them")
        self._buffer.append(entry.row | {"group": group, "holdout": self.holdouts.index(entry.holdout)})
        self._buffered_atoms += len(entry.row["numbers"])
        if self._buffered_atoms >= self.max_atoms_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard."""
        if not self._buffer:
            return
        columns: dict[str, Any] = {}
        for name, spec in FIELDS.items():
            rows = [row[name] for row in self._buffer]
            columns[name] = np.concatenate(rows) if spec.per == "atom" else np.stack(rows)
        columns["offsets"] = np.cumsum([0, *(len(row["numbers"]) for row in self._buffer)])
        self._write(self._path(len(self._first_of_shard) - 1), columns)
        self._first_of_shard.append(self._first_of_shard[-1] + len(self._buffer))
        self._buffer, self._buffered_atoms = [], 0

    def finish(self, origin: Source) -> Manifest:
        """Write the last shard, take displaced structures out, and write the manifest."""
        self.flush()
        paths = self._without_dropped()
        rejected = tuple(self.rejected)
        if not paths:
            reasons = ", ".join(f"{count} {reason}" for reason, count in manifests.count_by_reason(rejected).items())
            raise DataError(f"source {origin.name} left nothing to prepare: rejected {reasons or 'none, it was empty'}")
        shards, statistics = [], label_statistics(read_columns(path) for path in paths)
        groups: set[int] = set()
        num_edges = 0
        for path in paths:
            columns = read_columns(path)
            groups.update(columns["group"].tolist())
            num_edges += int(columns["num_edges"].sum(dtype=np.int64))
            sizes = len(columns["energy"]), len(columns["numbers"])
            shards.append(ShardFile(path.name, *sizes, file_sha256(path), path.stat().st_size))
        manifest = Manifest(
            digest=content_digest(paths, cutoff_ang=self.bounds.cutoff_ang, holdouts=self.holdouts),
            num_structures=sum(shard.num_structures for shard in shards),
            num_atoms=sum(shard.num_atoms for shard in shards),
            num_edges=num_edges,
            num_groups=len(groups),
            elements=statistics.atomic_numbers,
            units={name: spec.unit for name, spec in FIELDS.items() if spec.unit},
            cutoff_ang=self.bounds.cutoff_ang,
            holdouts=tuple(self.holdouts),
            shards=tuple(shards),
            source=origin,
            validation=asdict(self.bounds),
            num_rejected=manifests.count_by_reason(rejected),
            rejected=rejected,
            num_duplicates=self.num_duplicates,
            statistics=statistics.labels,
            created_by=f"gnn-scaling {_version()}",
        )
        with _disk_errors(self.directory):
            names = {str(group): self.groups[group] for group in sorted(groups, key=self.groups.__getitem__)}
            (self.directory / GROUPS).write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
            manifests.write_manifest(self.directory, manifest)
        return manifest

    def _without_dropped(self) -> list[Path]:
        """Rewrite the shards that hold displaced structures; list the shards that are left."""
        dropped = np.array(sorted(self._dropped), dtype=np.int64)
        paths = []
        for shard, (first, last) in enumerate(zip(self._first_of_shard[:-1], self._first_of_shard[1:], strict=True)):
            path = self._path(shard)
            keep = ~np.isin(np.arange(first, last), dropped)
            if not keep.all():
                columns = read_columns(path)
                path.unlink()
                if not keep.any():
                    continue
                self._write(path, _select(columns, keep))
            paths.append(path)
        return paths

    def _path(self, shard: int) -> Path:
        return self.directory / f"structures-{shard:05d}.h5"

    def _write(self, path: Path, columns: Mapping[str, Any]) -> None:
        with _disk_errors(path):
            write_shard(path, columns)


def _fill(draft: _Draft, source: StructureSource, progress: bool) -> None:
    """Run every record of the source through validation into the draft."""
    counts: Counter[str] = Counter()
    interval = 0.2 if sys.stderr.isatty() else 15.0
    total = source.num_expected()
    with tqdm(total=total, unit=" structures", desc=source.name, mininterval=interval, disable=not progress) as bar:
        for entry in source.records():
            outcome = entry if isinstance(entry, Rejected) else validate(entry, draft.bounds)
            if isinstance(outcome, Rejected):
                draft.rejected.append(outcome)
                counts["rejected"] += 1
                bar.set_postfix(counts, refresh=False)
            else:
                draft.add(outcome)
                bar.update()


def _select(columns: Mapping[str, NDArray[Any]], keep: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The structures of a shard where `keep` (S,) is true."""
    num_atoms = np.diff(columns["offsets"])
    atoms = np.repeat(keep, num_atoms)
    chosen = {name: columns[name][atoms if spec.per == "atom" else keep] for name, spec in FIELDS.items()}
    return {**chosen, "offsets": np.concatenate([[0], np.cumsum(num_atoms[keep])])}


def _checksums(files: Sequence[Path]) -> tuple[SourceFile, ...]:
    try:
        return tuple(SourceFile(path.name, file_sha256(path), path.stat().st_size) for path in files)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _already_prepared(out: Path, origin: Source, bounds: Bounds) -> Manifest | None:
    """The manifest if `out` holds this very data; None if it is free.

    Raises:
        DataError: if it holds something else, or the same in a damaged state.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise DataError(f"out={out} exists and is not a prepared data set; choose another out=, or remove it")
    present = manifests.read_manifest(out)
    before, now = _identity(present.source, present.validation), _identity(origin, asdict(bounds))
    differing = [
        f"{key} is {before.get(key)!r} there and {now.get(key)!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise DataError(f"out={out} holds other data: {'; '.join(differing)}; choose another out=, or remove it")
    try:
        ShardSet(out)
    except DataError as error:
        raise DataError(f"out={out} was prepared, but is damaged; remove it and prepare again: {error}") from error
    return present


def _identity(origin: Source, validation: Mapping[str, float]) -> dict[str, Any]:
    """All that decides the content, flat, by the names the user knows."""
    return {
        "source": origin.name,
        **{f"source.{key}": value for key, value in origin.config.items()},
        **{f"the checksum of {entry.file}": entry.sha256[:12] for entry in origin.files},
        **{f"bounds.{key}": value for key, value in validation.items()},
    }


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Hold the working directory beside `out`, empty and locked; remove it unless it was moved away."""
    partial = out.with_name(f".{out.name}.partial")
    with _disk_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given up by the system if the process is killed
        except OSError:
            raise DataError(f"another process is preparing {out}; wait for it, or choose another out=") from None
        with _disk_errors(partial):
            for leftover in partial.iterdir():
                leftover.unlink()
        try:
            yield partial
        finally:
            if partial.is_dir() and os.path.samestat(os.fstat(handle), partial.stat()):
                shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a message that names the place."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; check space and permissions, or choose another out="
        ) from error


def _version() -> str:
    try:
        return importlib.metadata.version("gnn-scaling")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
