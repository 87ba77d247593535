"""A look at prepared data: what it holds, as a picture; and what its splits leak, as a table."""

from pathlib import Path

import numpy as np
from ase.symbols import Symbols
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis.plots.style import BLUE, ORANGE, house_style, save_bytes
from scaling.data import Manifest, ShardSet, read_columns
from scaling.data.preparation import FAR_SHARE, TOLERANCE_ANG, SplitConfig, leaks_of_splits
from scaling.errors import DataError
from scaling.runs import write_atomic

PICTURE = "inspect.png"
BINS = 60
#: Elements that are named; the rest are counted together.
MAX_ELEMENTS = 24
#: Structures whose forces are drawn, evenly over the set.
MAX_SHARDS = 20


def draw(shards: ShardSet) -> Path:
    """Histograms of energies, forces and sizes, and the share of each element, as a picture in the directory.

    Raises:
        DataError: if the directory cannot be written.
    """
    with house_style():
        figure = _figure(shards)
        picture = shards.path / PICTURE
        try:
            write_atomic(picture, save_bytes(figure, "png", "inspect"))
        except OSError as error:
            raise DataError(f"{picture} cannot be written: {error.strerror}") from error
    return picture


def _figure(shards: ShardSet) -> Figure:
    manifest = shards.manifest
    figure = Figure(figsize=(9.0, 6.2))
    energies, forces, sizes, elements = figure.subplots(2, 2).flat
    step = -(-len(manifest.shards) // MAX_SHARDS)
    norms = np.concatenate(
        [np.linalg.norm(read_columns(shards.path / s.file)["forces"], axis=1) for s in manifest.shards[::step]]
    )
    norms = norms[~np.isnan(norms)]
    alpha = 0.6 if len(manifest.parts) > 1 else 1.0
    has_energy = shards.has("energy")
    for name, color, chosen in _by_part(shards):
        chosen = chosen[has_energy[chosen]]
        energies.hist(shards.energy[chosen] / shards.num_atoms[chosen], bins=BINS, color=color, alpha=alpha, label=name)
    energies.set_xlabel("energy (eV/atom)" + _share(manifest, "energy"))
    energies.set_ylabel("structures")
    if len(manifest.parts) > 1:
        energies.legend()
    positive = norms[norms > 0]
    if len(positive):
        edges = np.geomspace(max(positive.min(), positive.max() * 1e-6), positive.max(), BINS)
        forces.hist(positive, bins=list(edges), color=BLUE)
        forces.set_xscale("log")
    zero = np.count_nonzero(norms == 0) / max(1, len(norms))
    forces.set_xlabel(
        "force on an atom (eV/Å)" + (f"; {zero:.1%} are zero" if zero else "") + _share(manifest, "forces")
    )
    forces.set_ylabel("atoms" + (f" (1 shard in {step})" if step > 1 else ""))
    sizes.hist(shards.num_atoms, bins=BINS, color=BLUE)
    sizes.set_xlabel("atoms of a structure")
    sizes.set_ylabel("structures")
    by_count = sorted(manifest.statistics.elements.items(), key=lambda entry: -entry[1].num_atoms)
    shown = {symbol: entry.num_atoms for symbol, entry in by_count[:MAX_ELEMENTS]}
    if rest := sum(entry.num_atoms for _, entry in by_count[MAX_ELEMENTS:]):
        shown[f"{len(by_count) - MAX_ELEMENTS} others"] = rest
    elements.bar(list(shown), list(shown.values()), color=BLUE)
    elements.set_ylabel("atoms")
    elements.tick_params(axis="x", labelrotation=0 if len(shown) <= 12 else 90)
    for axes in (energies, forces, sizes, elements):
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(axis="x", visible=False)
    figure.suptitle(
        f"{shards.path.name}: {manifest.num_structures:,} structures, {manifest.num_atoms:,} atoms, "
        f"{manifest.num_groups:,} groups"
    )
    return figure


def _share(manifest: Manifest, label: str) -> str:
    """Of an axis: how many structures have the label, unless all have."""
    count = manifest.labels[label]
    return "" if count == manifest.num_structures else f"; {count:,} structures have it"


def _by_part(shards: ShardSet) -> list[tuple[str, str, np.ndarray]]:
    colors = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6b6b6b")
    parts = shards.manifest.parts
    return [(p.name, colors[k % len(colors)], np.flatnonzero(shards.source == k)) for k, p in enumerate(parts)]


def describe_leaks(directory: str, config: SplitConfig, processes: int) -> str:
    """What `leaks=DIR` prints."""
    shards = ShardSet(directory)
    rows = [f"structures within {TOLERANCE_ANG} angstrom of a training structure, {directory}"]
    for name, leaks in leaks_of_splits(shards, config, processes).items():
        nearest = "" if leaks.nearest_ang is None else f"   nearest {leaks.nearest_ang:.4f} angstrom (median)"
        rows.append(f"  {name:<24} {len(leaks.pairs):>6} of {leaks.num_judged:<6} {leaks.share:>7.1%}{nearest}")
        for judged, train, distance in sorted(leaks.pairs, key=lambda pair: pair[2])[:2]:
            formula = Symbols(shards.read(judged).numbers).get_chemical_formula()
            rows.append(f"      e.g. structures {judged} and {train}, {formula}: {distance:.4f} angstrom apart")
    if shards.manifest.blocks is not None:
        rows.append(
            f"  far apart: without training structures nearer than {FAR_SHARE:.0%} of the test structure's group"
        )
    return "\n".join(rows)
