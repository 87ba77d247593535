"""Source files or a generator -> HDF5 shards and a manifest.

python -m experiments.prepare source=emt out=data/emt
python -m experiments.prepare source=mvl source.path=PATH out=DIR
python -m experiments.prepare verify=DIR       every byte against the manifest
python -m experiments.prepare inspect=DIR      counts, elements, histograms; DIR/inspect.png
python -m experiments.prepare leaks=DIR        structures of the test set that training structures nearly equal
"""

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.command import command
from scaling.config import writable
from scaling.data import COPIES, Blocks, Manifest, ShardSet, describe
from scaling.data.preparation import (
    REMEDIES,
    UNCORRELATED,
    WAYS_OUT,
    Bounds,
    SplitConfig,
    prepare,
    try_split,
    verify,
    warnings,
)
from scaling.data.sources import SOURCES
from scaling.errors import ConfigError


@dataclass(frozen=True)
class PrepareConfig:
    """What the command takes: a source and out, or a directory to verify, inspect or search for leaks.

    processes: that read and validate; 0: one for each core. split: of which leaks are sought, and which is tried.
    """

    source: Any = None
    out: str | None = None
    verify: str | None = None
    inspect: str | None = None
    leaks: str | None = None
    processes: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    split: SplitConfig = field(default_factory=SplitConfig)


def register_schemas() -> None:
    """Give Hydra the types, so that it refuses unknown keys and wrong values by name."""
    store = ConfigStore.instance()
    store.store(group="schema", name="prepare", node=writable(PrepareConfig))
    for name, source in SOURCES.items():
        store.store(group="schema/source", name=name, node=writable(source))


def run(config: DictConfig) -> str:
    """Do what the settings ask for; return what to print.

    Raises:
        ScalingError: whatever the user can mend.
    """
    settings: PrepareConfig = OmegaConf.to_object(config)  # type: ignore[assignment]
    start = time.monotonic()
    asked = [name for name in ("verify", "inspect", "leaks", "source") if getattr(settings, name) is not None]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)} are separate commands; give one of them")
    if settings.verify is not None:
        manifest = verify(settings.verify)
        return summarise(manifest, f"verified {settings.verify}", time.monotonic() - start)
    if settings.inspect is not None:
        from experiments.inspection import draw

        shards = ShardSet(settings.inspect)
        picture = draw(shards)
        return f"{summarise(shards.manifest, settings.inspect, time.monotonic() - start)}\n  {'picture':<11} {picture}"
    if settings.leaks is not None:
        from experiments.inspection import describe_leaks

        return describe_leaks(settings.leaks, settings.split, settings.processes)
    if settings.source is None:
        raise ConfigError(
            f"source is not set; choose one of {', '.join(SOURCES)}: source=NAME out=DIR "
            "(or verify=DIR, inspect=DIR, leaks=DIR)"
        )
    if settings.out is None:
        raise ConfigError("out is not set; name the directory to prepare: out=DIR")
    prepared = prepare(settings.source, settings.out, settings.bounds, num_processes=settings.processes)
    for problem in (*warnings(prepared.manifest), *_remarks(prepared.manifest)):
        print(f"warning: {problem}", file=sys.stderr)
    problem, in_gaps = try_split(ShardSet(settings.out), settings.split)
    if problem:
        print(f"warning: {problem}", file=sys.stderr)
    if prepared.already:
        return f"already prepared: {settings.out}, digest {prepared.manifest.digest}"
    return summarise(prepared.manifest, f"prepared {settings.out}", time.monotonic() - start, in_gaps)


def _remarks(manifest: Manifest) -> list[str]:
    """What the reader has to say; what to do about several states, and about one geometry with several labels."""
    found = [f"{count} structures: {note}" for note, count in manifest.notes.items()]
    if manifest.num_states > 1:
        found.append(
            f"structures are in {manifest.num_states} states of charge and spin, which are stored, but networks do not "
            "see them: train on one state, or prepare each as a set of its own"
        )
    for reason in (name for name in manifest.num_rejected if name in WAYS_OUT and name.endswith("out of bounds")):
        settings = {f"source.{name}" for name in manifest.source.config}
        keys = [key for key in WAYS_OUT[reason] if key.startswith("bounds.") or key.partition("=")[0] in settings]
        found.append(
            f"{manifest.num_rejected[reason]} structures are rejected for {reason}, so the set ends there; if it is "
            f"the unit or the bound that is wrong, see {' and '.join(keys)}"
        )
    for reason, remedy in REMEDIES.items():
        if count := manifest.num_rejected.get(reason):
            first = next(entry for entry in manifest.rejected if entry.reason == reason)
            found.append(
                f"{count} structures are rejected for {reason}, e.g. {first.record} {first.detail}; all are listed in "
                f"rejected.jsonl; {remedy}"
            )
    return found


def summarise(manifest: Manifest, title: str, seconds: float, in_gaps: int = 0) -> str:
    """Put a manifest on one screen."""
    statistics = manifest.statistics
    energy, force, pressure = statistics.energy_ev_per_atom, statistics.force_norm_ev_per_ang, statistics.pressure_gpa
    elements = ", ".join(f"{symbol} {entry.num_atoms}" for symbol, entry in statistics.elements.items())
    first = {entry.reason: f"{entry.record}: {entry.detail}" for entry in reversed(manifest.rejected)}
    rejected = ", ".join(
        f"{count} {reason} (the first: {first[reason]:.100})" for reason, count in manifest.num_rejected.items()
    )
    held_out = ", ".join(repr(name) for name in manifest.holdouts if name)
    of_all = {name: "all" if n == manifest.num_structures else n for name, n in manifest.labels.items() if n}
    labels = ", ".join(f"{name} of {count}" for name, count in of_all.items())
    checks = {"forces say": manifest.consistency, "stress says": manifest.stress_consistency}
    checked = [
        f"energies change by {check.slope:.3f} times what {words} ({check.num_pairs} pairs of neighbouring structures)"
        for words, check in checks.items()
        if check.slope is not None
    ]
    if len(manifest.parts) > 1:
        labels += ", mixed: " + ", ".join(f"{part.name} x {part.weight:g}" for part in manifest.parts)
    rows = {
        "structures": f"{manifest.num_structures} in {manifest.num_groups} groups, {len(manifest.shards)} shard(s)",
        **({"blocks": _describe(manifest.blocks, in_gaps)} if manifest.blocks else {}),
        "atoms": f"{manifest.num_atoms}, {manifest.num_atoms / manifest.num_structures:.1f} a structure",
        "edges": f"{manifest.num_edges} within {manifest.cutoff_ang} angstrom, "
        f"{manifest.num_edges / manifest.num_atoms:.1f} an atom",
        "elements": f"{elements} (atoms)",
        "labels": labels,
        "energy": f"{energy.mean:.3f} +- {energy.std:.3f} eV/atom, {energy.min:.3f} to {energy.max:.3f}"
        if energy
        else "",
        "forces": f"{force.mean:.3f} +- {force.std:.3f} eV/angstrom (norm), at most {force.max:.2f}" if force else "",
        "pressure": f"{pressure.mean:.3f} +- {pressure.std:.3f} GPa" if pressure else "",
        "held out": held_out or "none",
        "files": describe(len(manifest.source.files), manifest.source.not_read),
        "rejected": rejected or "none",
        "duplicates": f"{manifest.num_duplicates} removed" + (f", see {COPIES}" if manifest.copies else ""),
        "checked": "; ".join(checked)
        or (
            "no pairs of neighbouring structures"
            if energy and force
            else "nothing: energies and forces are not both there"
        ),
        "digest": manifest.digest,
        "time": f"{seconds:.1f} s",
    }
    return "\n".join([title, *(f"  {key:<11} {value}" for key, value in rows.items() if value)])


def _describe(blocks: Blocks, in_gaps: int) -> str:
    """How groups are cut."""
    lengths, gaps = {cut.length for cut in blocks.groups}, {cut.gap for cut in blocks.groups}
    said = (
        f"{blocks.num_blocks} of {_range(lengths)} structures, of {len(blocks.groups)} group(s), gaps of {_range(gaps)}"
        + (f", {in_gaps} structures in them at the default shares" if in_gaps else "")
    )
    if all(cut.gap == 1 and (cut.correlation or 0.0) < UNCORRELATED for cut in blocks.groups):
        said += "; neighbours are no more alike than any two: independent, or shuffled, which nothing here would find"
    return said


def _range(values: set[int]) -> str:
    return f"{min(values)} to {max(values)}" if len(values) > 1 else str(*values)


@command
def main() -> int:
    """Prepare, verify, inspect or search for leaks, and print a summary."""

    composed: list[DictConfig] = []

    @hydra.main(config_path="pkg://conf", config_name="prepare", version_base="1.3")
    def take(config: DictConfig) -> None:
        composed.append(config)

    take()
    if len(composed) > 1:
        raise ConfigError("a preparation makes one data set; give the command once for each")
    for config in composed:  # none after --help and the like
        print(run(config))
    return 0


register_schemas()

if __name__ == "__main__":
    sys.exit(main())
