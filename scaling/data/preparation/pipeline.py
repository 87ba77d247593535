"""From a source to a prepared directory: validate, drop duplicates, write shards, account for every record."""

import fcntl
import hashlib
import importlib.metadata
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scaling.data import manifest as manifests
from scaling.data.index import INDEX, index_rows, write_index
from scaling.data.manifest import COPIES, GROUPS, MANIFEST, Manifest, ShardFile, Source, SourceFile
from scaling.data.preparation.block import Block, concatenate, select
from scaling.data.preparation.consistency import measure
from scaling.data.preparation.draft import Draft, disk_errors
from scaling.data.preparation.duplicates import resolve
from scaling.data.preparation.parallel import in_order
from scaling.data.preparation.statistics import label_statistics
from scaling.data.preparation.validation import Bounds
from scaling.data.shard_file import Columns, content_digest, file_sha256, read_columns, write_shard
from scaling.data.shards import ShardSet
from scaling.data.source import StructureSource
from scaling.errors import DataError
from scaling.runs import write_atomic
from scaling.structure import FIELDS

MAX_ATOMS_PER_SHARD = 4_000_000  # about 100 MB
MAX_HOLDOUTS = 255


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
    num_processes: int = 1,
    max_atoms_per_shard: int = MAX_ATOMS_PER_SHARD,
    progress: bool = True,
) -> Prepared:
    """Prepare `out` from `source`; at once if it holds just that already, where it was interrupted otherwise.

    The work is done in `.NAME.partial` beside `out` and moved there when it is whole. Memory grows with the source by
    a few bytes a structure, and by the list of what was rejected.

    Args:
        num_processes: 0: one for each core that this process may use.

    Raises:
        DataError: if a source file cannot be read, nothing valid is left, `out` holds other data, or the disk
            cannot be written.
    """
    out, bounds = Path(out).resolve(), bounds or Bounds()
    origin = Source(source.name, dict(source.identity()), _checksums(source.files()), source.not_read())
    identity = _identity(origin, asdict(bounds))
    if present := _already_prepared(out, identity):
        return Prepared(present, already=True)
    with _writing(out) as partial:
        if present := _already_prepared(out, identity):  # by another process meanwhile
            return Prepared(present, already=True)
        if not (partial / MANIFEST).is_file() or _identity_of(manifests.read_manifest(partial)) != identity:
            draft = Draft(partial, {**identity, "code": _code()})
            _fill(draft, source, bounds, num_processes, progress)
            _finish(draft, source, origin, bounds, max_atoms_per_shard)
            draft.discard()
        manifest = manifests.read_manifest(partial)
        for leftover in partial.glob("piece-*"):
            leftover.unlink()
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
    manifest = shards.manifest
    same = partial(np.array_equal, equal_nan=True)
    for entry in (*manifest.shards, manifest.index, manifest.groups, *([manifest.copies] if manifest.copies else [])):
        if file_sha256(shards.path / entry.file) != entry.sha256:
            raise DataError(f"{shards.path / entry.file} is damaged: its checksum is not the manifest's; prepare again")
    paths = [shards.path / shard.file for shard in manifest.shards]
    found = content_digest(paths, cutoff_ang=manifest.cutoff_ang, holdouts=manifest.holdouts, parts=manifest.parts)
    if found != manifest.digest:
        raise DataError(f"{shards.path}: the content's digest is {found}, the manifest says {manifest.digest}")
    first = 0
    for path in paths:
        rows = index_rows(read_columns(path))
        stored = shards.rows[first : first + len(rows)]
        if not all(same(stored[name], rows[name]) for name in stored.dtype.names):
            raise DataError(f"{shards.path / INDEX} is not the index of {path}; prepare again")
        first += len(rows)
    return manifest


def _fill(draft: Draft, source: StructureSource, bounds: Bounds, num_processes: int, progress: bool) -> None:
    """Run every record of the source through validation into the draft."""
    interval = 0.2 if sys.stderr.isatty() else 15.0
    limit, num_rejected = source.limit(), 0
    tasks = itertools.islice(source.tasks(), draft.num_tasks, None)
    with tqdm(
        total=source.num_expected(),
        initial=draft.num_structures,
        unit=" structures",
        desc=source.name,
        mininterval=interval,
        disable=not progress,
    ) as bar:
        if limit is None or draft.num_structures < limit:
            for block in in_order(partial(Block.of, source, bounds), tasks, num_processes):
                if limit is not None:
                    block = block.first(limit - draft.num_structures)
                draft.add(block)
                bar.update(len(block))
                if block.rejected:
                    num_rejected += len(block.rejected)
                    bar.set_postfix(rejected=num_rejected, refresh=False)
                if draft.num_structures == limit:
                    break
        draft.flush()


def _finish(draft: Draft, source: StructureSource, origin: Source, bounds: Bounds, max_atoms_per_shard: int) -> None:
    """Take duplicates out and write shards, index, names of groups and manifest."""
    directory = draft.directory
    for pattern in ("structures-*", "groups*", "index*", COPIES):
        for stale in directory.glob(pattern):
            stale.unlink()
    duplicates = resolve(draft)
    keep = duplicates.keep
    notes = [(block.holdouts, block.rejected, block.work) for block in draft.pieces(structures=False)]
    holdouts = tuple(dict.fromkeys(("", *(name for names, _, _ in notes for name in names))))
    if len(holdouts) > MAX_HOLDOUTS:
        raise DataError(f"source {source.name} names {len(holdouts)} held-out sets; {MAX_HOLDOUTS} can be")
    rejected = (*(entry for _, entries, _ in notes for _, entry in entries), *duplicates.conflicts)
    if not keep.any():
        draft.discard()
        reasons = ", ".join(f"{count} {reason}" for reason, count in manifests.count_by_reason(rejected).items())
        raise DataError(f"source {origin.name} left nothing to prepare: rejected {reasons or 'none, it was empty'}")
    num_structures = int(keep.sum())
    with disk_errors(directory):
        paths = _write(draft, keep, holdouts, max_atoms_per_shard)
        write_index(directory / INDEX, (read_columns(path) for path in paths), num_structures)
        copies = _write_copies(directory / COPIES, duplicates.copies)
    content = _content(directory, paths, source, bounds, holdouts)
    work = np.sum([work for _, _, work in notes], axis=0)
    manifest = Manifest(
        **content,
        units={name: spec.unit for name, spec in FIELDS.items() if spec.unit},
        cutoff_ang=bounds.cutoff_ang,
        holdouts=holdouts,
        source=origin,
        validation=asdict(bounds),
        num_rejected=manifests.count_by_reason(rejected),
        rejected=rejected,
        num_duplicates=len(duplicates.copies),
        copies=copies,
        consistency=measure(work[0]),
        stress_consistency=measure(work[1]),
        created_by=f"gnn-scaling {_version()}",
    )
    with disk_errors(directory):
        manifests.write_manifest(directory, manifest)


def _write(draft: Draft, keep: NDArray[np.bool_], holdouts: Sequence[str], max_atoms_per_shard: int) -> list[Path]:
    """Write the shards and the names of their groups; returns the shards."""
    paths = []
    with (draft.directory / GROUPS).open("w", encoding="utf-8") as groups:
        for number, (columns, names) in enumerate(_shards(draft, keep, holdouts, max_atoms_per_shard)):
            paths.append(draft.directory / f"structures-{number:05d}.h5")
            write_shard(paths[-1], columns)
            groups.writelines(json.dumps(entry) + "\n" for entry in names.items())
        groups.flush()
        os.fsync(groups.fileno())
    return paths


def _write_copies(path: Path, copies: Sequence[tuple[str, str]]) -> ShardFile | None:
    """List what was dropped, and of what it is a copy; no file where nothing was."""
    if not copies:
        return None
    lines = (json.dumps({"record": record, "copy_of": kept}) + "\n" for record, kept in copies)
    write_atomic(path, "".join(lines))
    return _shard_file(path, len(copies), 0)


def _content(
    directory: Path, paths: Sequence[Path], source: StructureSource, bounds: Bounds, holdouts: Sequence[str]
) -> dict[str, Any]:
    """Of a manifest, all that follows from the files: counts, checksums, digest and statistics.

    Raises:
        DataError: if nothing is left of a part of a mixed set.
    """
    shards = []
    for path in paths:
        columns = read_columns(path)
        shards.append(_shard_file(path, len(columns["energy"]), len(columns["numbers"])))
    rows = np.load(directory / INDEX, mmap_mode="r")
    parts = tuple(source.parts())
    if empty := [part.name for number, part in enumerate(parts) if not (rows["source"] == number).any()]:
        raise DataError(f"source {source.name}: no structure of {', '.join(empty)} is left")
    statistics = label_statistics(read_columns(path) for path in paths)
    num_structures, num_atoms = len(rows), sum(shard.num_atoms for shard in shards)
    return {
        "digest": content_digest(paths, cutoff_ang=bounds.cutoff_ang, holdouts=holdouts, parts=parts),
        "num_structures": num_structures,
        "num_atoms": num_atoms,
        "num_edges": int(rows["num_edges"].sum(dtype=np.int64)),
        "num_groups": len(np.unique(rows["group"])),
        "elements": statistics.atomic_numbers,
        "shards": tuple(shards),
        "index": _shard_file(directory / INDEX, num_structures, num_atoms),
        "groups": _shard_file(directory / GROUPS, num_structures, num_atoms),
        "parts": parts,
        "statistics": statistics.labels,
        "labels": statistics.counts,
        "num_states": statistics.num_states,
    }


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
            here = np.arange(len(ends))
            yield of(select(joined, (here >= done) & (here < stop)))
            done = stop
        waiting = [select(joined, np.arange(len(ends)) >= done)]
        names = {group: names[group] for group in set(waiting[0]["group"].tolist())}
    if len(waiting[0]["energy"]):
        yield of(waiting[0])


def _shard_file(path: Path, num_structures: int, num_atoms: int) -> ShardFile:
    return ShardFile(path.name, num_structures, num_atoms, file_sha256(path), path.stat().st_size)


def _checksums(files: Mapping[str, Path]) -> tuple[SourceFile, ...]:
    try:
        return tuple(SourceFile(name, file_sha256(path), path.stat().st_size) for name, path in files.items())
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _already_prepared(out: Path, now: Mapping[str, Any]) -> Manifest | None:
    """The manifest if `out` holds this very data; None if it is free.

    Raises:
        DataError: if it holds something else, or the same in a damaged state.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise DataError(f"out={out} exists and is not a prepared data set; choose another out=, or remove it")
    present = manifests.read_manifest(out)
    before = _identity_of(present)
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
    found = {
        "source": origin.name,
        **{f"source.{key}": value for key, value in origin.config.items()},
        **{f"the checksum of {entry.file}": entry.sha256[:12] for entry in origin.files},
        **{f"bounds.{key}": value for key, value in validation.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _identity_of(manifest: Manifest) -> dict[str, Any]:
    return _identity(manifest.source, manifest.validation)


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Hold the working directory beside `out`, locked; it stays where it is if the work is interrupted."""
    partial = out.with_name(f".{out.name}.partial")
    with disk_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given up by the system if the process is killed
        except OSError:
            raise DataError(f"another process is preparing {out}; wait for it, or choose another out=") from None
        try:
            yield partial
        finally:
            still_there = partial.is_dir() and os.path.samestat(os.fstat(handle), partial.stat())
            if still_there and not any(partial.glob("piece-*")) and not (partial / MANIFEST).exists():
                shutil.rmtree(partial, ignore_errors=True)  # nothing to go on with
    finally:
        os.close(handle)


def _code() -> str:
    """A hash of the code that cuts and reads: pieces of another version are not gone on with."""
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    return hashlib.sha256(content).hexdigest()


def _version() -> str:
    try:
        return importlib.metadata.version("gnn-scaling")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
