"""From a source to a prepared directory: what is done is not done again, what was broken off goes on."""

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scaling.data import manifest as manifests
from scaling.data.index import INDEX, index_rows
from scaling.data.manifest import MANIFEST, Blocks, Manifest, Source, SourceFile
from scaling.data.preparation.block import Block
from scaling.data.preparation.cutting import is_cut_so
from scaling.data.preparation.draft import Draft, disk_errors
from scaling.data.preparation.finishing import finish
from scaling.data.preparation.parallel import in_order, num_available_cores
from scaling.data.preparation.validation import Bounds
from scaling.data.shard_file import ContentDigest, file_sha256, read_columns
from scaling.data.shards import ShardSet
from scaling.data.source import StructureSource
from scaling.errors import DataError

MAX_ATOMS_PER_SHARD = 4_000_000  # about 100 MB
#: Differences between what is there and what is asked for that are told.
MAX_TOLD = 5


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
    a few bytes a structure. Where nothing valid is left, the list of what was rejected lies in NAME.rejected.jsonl.

    Args:
        num_processes: 0: one for each core that this process may use.

    Raises:
        DataError: if a source file cannot be read, nothing valid is left, `out` holds other data, or the disk
            cannot be written.
    """
    out, bounds = Path(out).resolve(), bounds or Bounds()
    rule = source.group_blocks()
    origin = Source(source.name, dict(source.identity()), _checksums(source.files(), num_processes), source.not_read())
    identity = _identity(origin, asdict(bounds))
    if present := _already_prepared(out, identity, rule):
        return Prepared(present, already=True)
    with _writing(out) as partial:
        if present := _already_prepared(out, identity, rule):  # by another process meanwhile
            return Prepared(present, already=True)
        if not _is_whole(partial, identity, rule):
            draft = Draft(partial, {**identity, "code": _code()})
            _fill(draft, source, bounds, num_processes, progress)
            finish(draft, source, origin, bounds, out, max_atoms_per_shard, num_processes)
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
    digest, first = ContentDigest(), 0
    not_indexed: list[Path] = []
    for shard in manifest.shards:
        columns = read_columns(shards.path / shard.file)
        digest.add(columns)
        rows = index_rows(columns)
        stored = shards.rows[first : first + len(rows)]
        if not all(same(stored[name], rows[name]) for name in stored.dtype.names):
            not_indexed.append(shards.path / shard.file)
        first += len(rows)
    found = digest.name(
        cutoff_ang=manifest.cutoff_ang, holdouts=manifest.holdouts, parts=manifest.parts, blocks=manifest.blocks
    )
    if found != manifest.digest:
        raise DataError(f"{shards.path}: the content's digest is {found}, the manifest says {manifest.digest}")
    if not_indexed:
        raise DataError(f"{shards.path / INDEX} is not the index of {not_indexed[0]}; prepare again")
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


def _checksums(files: Mapping[str, Path], num_threads: int) -> tuple[SourceFile, ...]:
    """By content and not by time, once a call, several files at once."""

    def checksum(name: str, path: Path) -> SourceFile:
        return SourceFile(name, file_sha256(path), path.stat().st_size)

    try:
        with ThreadPoolExecutor(num_threads or num_available_cores()) as threads:  # hashing lets others run
            return tuple(threads.map(checksum, files.keys(), files.values()))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _is_whole(partial: Path, identity: Mapping[str, Any], rule: int | Blocks | None) -> bool:
    """Whether all is done but the move to its place."""
    if not (partial / MANIFEST).is_file():
        return False
    manifest = manifests.read_manifest(partial)
    return _identity_of(manifest) == identity and is_cut_so(ShardSet(partial, manifest), rule)


def _already_prepared(out: Path, now: Mapping[str, Any], rule: int | Blocks | None) -> Manifest | None:
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
        more = f"; {len(differing) - MAX_TOLD} more" if len(differing) > MAX_TOLD else ""
        told = "; ".join(differing[:MAX_TOLD]) + more
        raise DataError(f"out={out} holds other data: {told}; choose another out=, or remove it")
    try:
        shards = ShardSet(out)
    except DataError as error:
        raise DataError(f"out={out} was prepared, but is damaged; remove it and prepare again: {error}") from error
    if not is_cut_so(shards, rule):
        lengths = sorted({cut.length for cut in present.blocks.groups}) if present.blocks else [0]
        there = "not cut" if lengths == [0] else f"cut into blocks of {' and '.join(map(str, lengths))}"
        asked = "null, which cuts them otherwise," if rule is None else str(rule)
        keeping = lengths[0] if len(lengths) == 1 else "null"
        raise DataError(
            f"out={out} holds the same structures, but its groups are {there} and source.group_block is {asked} here; "
            f"give source.group_block={keeping} to keep it, or choose another out="
        )
    return present


def _identity(origin: Source, validation: Mapping[str, float]) -> dict[str, Any]:
    """All that decides the content, flat, by the names the user knows."""
    found = {
        "source": origin.name,
        **{f"source.{key}": value for key, value in origin.config.items()},
        **{f"the checksum of {entry.file}": entry.sha256[:12] for entry in origin.files},
        **{f"file {number} in order": entry.file for number, entry in enumerate(origin.files)},
        **{f"bounds.{key}": value for key, value in validation.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _identity_of(manifest: Manifest) -> dict[str, Any]:
    """Of what was prepared; a bound that did not exist then is its default."""
    return _identity(manifest.source, {**asdict(Bounds()), **manifest.validation})


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
