"""Who sees whom: directed neighbour pairs within a cutoff, under any mix of periodic directions."""

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray
from vesin import NeighborList

from scaling.errors import DataError
from scaling.structure import FloatArray

MIN_CELL_HEIGHT_ANG = 0.5
"""A periodic cell thinner than this is taken for a broken one: atoms would overlap their own images."""

MAX_EXTENT_ANG = 1e4
"""Atoms or lattice vectors that reach farther are taken for broken ones: vesin's grid of cells would overflow."""

_per_thread = threading.local()  # vesin's object owns its output buffers: reusing it halves the cost, sharing it races

_NEXT, _LAST = [1, 2, 0], [2, 0, 1]


def neighbor_list(
    positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff_ang: float
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """List every directed pair closer than `cutoff_ang`, periodic images (also of the atom itself) included.

    The vector of an edge, from the centre to its neighbour, is
    `positions[edge_index[0]] + shifts @ cell - positions[edge_index[1]]`.

    Args:
        positions: (N, 3) Cartesian, angstrom; need not lie inside the cell.
        cell: (3, 3) lattice vectors as rows, angstrom; rows of directions that are not periodic are ignored.
        pbc: (3,) true where a direction is periodic.
        cutoff_ang: pairs at a distance < cutoff_ang are listed.

    Returns:
        edge_index: (2, E) int64; row 0 the neighbour (source), row 1 the centre (destination), sorted by centre.
        shifts: (E, 3) int32, the lattice translation of the neighbour's image; zero in non-periodic directions.

    Raises:
        DataError: if a coordinate is not finite, or the periodic lattice vectors span no volume.
    """
    points = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    periodic = np.asarray(pbc, dtype=bool)
    box = completed_cell(cell, periodic)
    if not (np.isfinite(points).all() and np.isfinite(box).all()):
        raise DataError("positions or cell hold a value that is not finite")
    if (farthest := extent(points, box)) > MAX_EXTENT_ANG:
        raise DataError(
            f"atoms or lattice vectors reach {farthest:.3g} angstrom; at most {MAX_EXTENT_ANG:g} is allowed"
        )
    if points.shape[0] == 0:
        return np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int32)
    # vesin divides by the height of every periodic cell and dies of a signal where that is zero.
    if periodic.any() and (heights := cell_heights(box))[periodic].min() < MIN_CELL_HEIGHT_ANG:
        raise DataError(
            f"the periodic cell is only {heights[periodic].min():.3g} angstrom high; "
            f"at least {MIN_CELL_HEIGHT_ANG} is needed"
        )
    pairs, shifts = _calculator(cutoff_ang).compute(points, box, periodic, "PS")
    order = np.argsort(pairs[:, 0], kind="stable")
    edge_index = np.ascontiguousarray(pairs[order, ::-1].T.astype(np.int64))
    return edge_index, shifts[order].astype(np.int32, copy=False)


def completed_cell(cell: ArrayLike, pbc: ArrayLike) -> FloatArray:
    """Replace the rows of non-periodic directions by unit vectors normal to the periodic ones.

    Args:
        cell: (3, 3) rows, angstrom. pbc: (3,).

    Returns:
        (3, 3) float64; of full rank whenever the periodic rows are independent.
    """
    box = np.array(cell, dtype=np.float64).reshape(3, 3)
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.all():
        box[~periodic] = 0.0
        if np.isfinite(box).all():
            # The right-singular vectors of rank zero span the space that the periodic rows leave free.
            box[~periodic] = np.linalg.svd(box)[2][periodic.sum() :]
    return box


def extent(positions: FloatArray, cell: FloatArray) -> float:
    """How far atoms (N, 3) lie apart, or lattice vectors (3, 3) reach, along any axis, angstrom."""
    apart = float(np.ptp(positions, axis=0).max()) if len(positions) else 0.0
    return max(apart, float(np.abs(cell).max()))


def cell_heights(cell: FloatArray) -> FloatArray:
    """Distance between opposite faces of a (3, 3) cell along each direction, angstrom; zeros if it spans no volume."""
    first, second = cell[_NEXT], cell[_LAST]
    normals = first[:, _NEXT] * second[:, _LAST] - first[:, _LAST] * second[:, _NEXT]  # np.cross is slow
    areas = np.linalg.norm(normals, axis=1)
    volume = abs(float(cell[0] @ normals[0]))
    return np.divide(volume, areas, out=np.zeros(3), where=areas > 0)


def _calculator(cutoff_ang: float) -> NeighborList:
    """Hand out this thread's own vesin object for a cutoff; one thread each, so that the order never varies."""
    if getattr(_per_thread, "cutoff_ang", None) != cutoff_ang:
        _per_thread.calculator = NeighborList(cutoff=cutoff_ang, full_list=True, n_threads=1)
        _per_thread.cutoff_ang = cutoff_ang
    return _per_thread.calculator
