"""Structures of equal geometry: copies, of which one stays, and conflicts, of which none does.

Equal are species, cell and positions after rounding (`validation.GEOMETRY_ROUNDING_ANG`), in any order of the atoms and
any periodic images, of the same part of a mixed set and with the same charge and spin: another charge, spin or part is
another structure, and so is one whose charge or spin is not known. Where the labels are equal too, they are copies;
where they are not, nobody can say which is right, and all of them are rejected. So they are where the record that would
stay lacks a label that another has: no record may lose it, and nothing shows that they are of one calculation.

Labels are equal if they differ by no more than rounding when they were written, and by what the geometries' own
difference, which rounding hides, can change: forces and stress by STIFFNESS times it, energies by the work over it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.data.manifest import Rejected
from scaling.data.neighbors import completed_cell
from scaling.data.preparation.block import Block
from scaling.data.preparation.draft import Draft
from scaling.data.preparation.validation import GEOMETRY_ROUNDING_ANG
from scaling.structure import FIELDS, LABELS, FloatArray, IntArray

CONFLICT = "same geometry, other labels"
SCATTERED = "labels of one structure in several records"
REMEDIES = {
    CONFLICT: "if they differ in charge or spin, let the source say so (charge=, spin=); if in the level of theory, "
    "prepare each as a set of its own and join them with source=mixed",
    SCATTERED: "join the labels of each structure into one record, or leave the records with fewer labels out, or "
    "prepare records of each kind as a set of their own and join the sets with source=mixed",
}
#: Geometries compared at once when equal ones are sought: about 300 MB.
GEOMETRIES_AT_ONCE = 2_500_000
#: Atoms of equal geometries whose labels are held at once: about as much.
ATOMS_AT_ONCE = 5_000_000
#: Of labels as they were written, in the units of FIELDS; and of float32, as a share.
ROUNDING = {"energy": 1e-3, "forces": 1e-3, "stress": 1e-5}
FLOAT32 = 2.0**-23
#: What equal geometries may differ by: a tick along each of three lattice vectors.
MAX_MOVE_ANG = 3 * GEOMETRY_ROUNDING_ANG
#: By how much a displacement of atoms or lattice vectors may change forces, eV/angstrom^2 (the stiffest bonds), and
#: stress, eV/angstrom^4 (500 GPa, over 3 angstrom).
STIFFNESS = {"forces": 100.0, "stress": 1.0}
#: A high stress, 16 GPa, in eV/angstrom^3: what a strain of the cell may cost.
HIGH_STRESS = 0.1


@dataclass(frozen=True)
class Duplicates:
    """keep: (S,) which of all structures stay. copies: record that was dropped, and record that was kept.

    conflicts: an entry for each structure that was rejected.
    """

    keep: NDArray[np.bool_]
    copies: Sequence[tuple[str, str]]
    conflicts: Sequence[Rejected]


class Member(NamedTuple):
    """One of several structures of equal geometry; labels: those that it has, of LABELS."""

    index: int
    record: str
    is_free: bool
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: NDArray[np.bool_]
    labels: dict[str, FloatArray]


def resolve(draft: Draft) -> Duplicates:
    """Find copies and conflicts among all structures of a draft.

    Of copies the held-out one stays, or else the one with most labels, or else the first.
    """
    keep = np.ones(draft.num_structures, dtype=bool)
    copies: list[tuple[int, str, str]] = []
    conflicts: list[tuple[int, Rejected]] = []
    for members in _groups(draft):
        first, *others = sorted(members, key=lambda m: (m.is_free, -len(m.labels), m.index))
        rejected = _differing(first, others) or _scattered(first, others)
        if rejected:
            keep[[m.index for m in members]] = False
            conflicts += [(m.index, entry) for m, entry in zip((first, *others), rejected, strict=True)]
        else:
            keep[[m.index for m in others]] = False
            copies += [(m.index, m.record, first.record) for m in others]
    copies.sort()
    conflicts.sort(key=lambda entry: entry[0])
    return Duplicates(keep, [(record, kept) for _, record, kept in copies], [entry for _, entry in conflicts])


def _differing(first: Member, others: Sequence[Member]) -> list[Rejected]:
    """An entry for each member if any two differ in a label that both have, else none.

    Each is compared with those before it that have labels of their own, of which there are few, and not with all.
    """
    compared = [first]
    clashes: dict[int, tuple[str, Member]] = {}
    for member in others:
        for known in compared:
            if words := difference(known, member):
                clashes.setdefault(member.index, (words, known))
        if not any(member.labels.keys() <= known.labels.keys() for known in compared):
            compared.append(member)
    if not clashes:
        return []
    example = next(m for m in others if m.index in clashes)
    words, known = clashes[example.index]
    found = []
    for member in (first, *others):
        if member.index in clashes:
            detail = f"{clashes[member.index][0]} from {clashes[member.index][1].record}"
        elif own := difference(member, example):
            detail = f"{own} from {example.record}"
        else:
            detail = f"{example.record} {words} from {known.record}"
        found.append(Rejected(member.record, CONFLICT, detail))
    return found


def _scattered(first: Member, others: Sequence[Member]) -> list[Rejected]:
    """An entry for each member if the first lacks a label that another has, else none."""
    richer = next((m for m in others if not m.labels.keys() <= first.labels.keys()), None)
    if richer is None:
        return []

    def has(member: Member) -> str:
        return f"has {' and '.join(member.labels)}"

    return [
        Rejected(m.record, SCATTERED, f"{has(m)}; {other.record} {has(other)}")
        for m, other in ((first, richer), *((m, first) for m in others))
    ]


def difference(one: Member, other: Member) -> str:
    """How labels that both have differ beyond what rounding explains, in words; "" if they agree."""
    order, moves = _paired(one, other)
    ours = one.labels
    theirs = {name: values[order] if name == "forces" else values for name, values in other.labels.items()}
    allowed = _allowed(moves, one, other, [each["forces"] for each in (ours, theirs) if "forces" in each])
    found = []
    for name in (name for name in LABELS if name in ours and name in theirs):
        gap = float(np.abs(ours[name] - theirs[name]).max())
        if gap > ROUNDING[name] + allowed[name] + FLOAT32 * float(np.abs(ours[name]).max()):
            found.append(f"{name} by {gap:.4g} {FIELDS[name].unit}")
    return f"differs in {', '.join(found)}" if found else ""


def _allowed(moves: FloatArray, one: Member, other: Member, forces: Sequence[FloatArray]) -> dict[str, float]:
    """What each label may differ by, since geometries that round alike are not quite the same."""
    moves = np.minimum(np.abs(moves), MAX_MOVE_ANG)
    box, step = completed_cell(one.cell, one.pbc), max(float(moves.max()), float(np.abs(other.cell - one.cell).max()))
    allowed = {name: slope * step for name, slope in STIFFNESS.items()}
    strongest = np.max([np.zeros(moves.shape), *np.abs(forces)], axis=0) + allowed["forces"]
    strain = float(np.abs(np.linalg.solve(box, other.cell - one.cell)).max())
    return {**allowed, "energy": float((moves * strongest).sum()) + HIGH_STRESS * abs(np.linalg.det(box)) * strain}


def _paired(one: Member, other: Member) -> tuple[IntArray, FloatArray]:
    """(N,) which atom of the other each atom is, and (N, 3) how it has moved by the shortest way, angstrom."""
    box, periodic = completed_cell(one.cell, one.pbc), one.pbc
    inverse = np.linalg.inv(box)

    def moves(order: IntArray) -> FloatArray:
        fractional = (other.positions[order] - one.positions) @ inverse
        return (fractional - np.rint(fractional) * periodic) @ box  # type: ignore[no-any-return]

    order = np.arange(len(one.numbers))
    if np.array_equal(one.numbers, other.numbers) and np.abs(moves(order)).max() < 2 * MAX_MOVE_ANG:
        return order, moves(order)
    from scipy.spatial import cKDTree  # takes half a second, which few need

    def place(member: Member) -> FloatArray:
        fractional = member.positions @ inverse
        turned = fractional % 1.0
        return np.where(periodic, np.where(turned < 1.0, turned, 0.0), fractional)

    order = cKDTree(place(other), boxsize=periodic.astype(float)).query(place(one))[1]
    return order, moves(order)


def _groups(draft: Draft) -> Iterator[list[Member]]:
    """Structures of equal geometry, two or more at a time; a bounded number of atoms is held."""
    firsts, num_atoms = _sizes(draft)
    waiting: list[IntArray] = []
    held = 0
    for group in sorted(_equal(draft), key=lambda indices: int(indices[0])):  # so that pieces are read in turn
        waiting.append(group)
        held += int(num_atoms[group].sum())
        if held > ATOMS_AT_ONCE:
            yield from _read(draft, firsts, waiting)
            waiting, held = [], 0
    if waiting:
        yield from _read(draft, firsts, waiting)


def _sizes(draft: Draft) -> tuple[IntArray, IntArray]:
    """(P + 1,) number of structures before each piece, and in all; (S,) atoms of each structure."""
    num_atoms = [np.zeros(0, np.int64)]
    for path in draft.paths():
        with np.load(path, allow_pickle=False) as file:
            num_atoms.append(np.diff(file["column_offsets"]))
    return np.cumsum([len(part) for part in num_atoms]), np.concatenate(num_atoms)


def _equal(draft: Draft) -> Iterator[IntArray]:
    """The indices of structures that are equal to others, ascending in each group; no labels are read."""
    num_shares = max(1, math.ceil(draft.num_structures / GEOMETRIES_AT_ONCE))
    for share in range(num_shares):
        rows = [np.zeros((0, 4), np.uint64)]
        first = 0
        for path in draft.paths():
            with np.load(path, allow_pickle=False) as file:
                geometry, part = file["geometry"], file["column_source"]
                charge, spin = (file[f"column_{name}"].astype(np.int64) & 0xFFFF for name in ("charge", "spin"))
            mine = np.flatnonzero(geometry[:, 0] % num_shares == share)
            kind = (part.astype(np.int64) << 32) | (charge << 16) | spin
            columns = (geometry[mine, 0], geometry[mine, 1], kind[mine], mine + first)
            rows.append(np.column_stack([column.astype(np.uint64) for column in columns]))
            first += len(geometry)
        table = np.concatenate(rows)
        table = table[np.lexsort(table.T[::-1])]
        begins = np.append(True, (table[1:, :3] != table[:-1, :3]).any(axis=1))[: len(table)]
        starts = np.flatnonzero(begins)
        ends = np.append(starts[1:], len(table))[: len(starts)]
        several = ends - starts > 1
        for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
            yield table[start:end, 3].astype(np.int64)


def _read(draft: Draft, firsts: IntArray, groups: Sequence[IntArray]) -> Iterator[list[Member]]:
    """Fetch the structures of these groups from the pieces."""
    wanted = np.sort(np.concatenate(groups))
    bounds = np.searchsorted(wanted, firsts)
    found: dict[int, Member] = {}
    for number, path in enumerate(draft.paths()):
        mine = wanted[bounds[number] : bounds[number + 1]].tolist()
        if mine:
            block = Block.read(path)
            found |= {index: _member(block, index - int(firsts[number]), index) for index in mine}
    for group in groups:
        yield [found.pop(index) for index in group.tolist()]


def _member(block: Block, row: int, index: int) -> Member:
    columns, atoms = block.columns, slice(*block.columns["offsets"][row : row + 2].tolist())

    def value(name: str) -> NDArray[Any]:
        return columns[name][atoms] if FIELDS[name].per == "atom" else columns[name][row]

    labels = {name: value(name).astype(np.float64) for name in LABELS}
    return Member(
        index=index,
        record=block.records[row],
        is_free=bool(columns["holdout"][row] == 0),
        numbers=value("numbers").copy(),
        positions=value("positions").astype(np.float64),
        cell=value("cell").astype(np.float64),
        pbc=value("pbc").astype(bool),
        labels={name: values for name, values in labels.items() if not np.isnan(values).any()},
    )
