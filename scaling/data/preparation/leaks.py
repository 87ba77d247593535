"""Structures on which a model is judged and that nearly equal one it was trained on, whatever their groups say.

Two structures of one formula are compared by their fingerprints (`fingerprint`), and the likeliest pairs atom by atom:
atoms are paired so that their environments differ least; what is left, root mean square, is the distance of the
structures.

Where groups are cut into blocks, the distance to the nearest training structure tells what correlation is left: beside
the split by block stand a split by frame, and the same test structures with every training structure left out that is
nearer than a tenth of the group.

Training structures pass by once for all splits; held are the fingerprints of the judged ones, MAX_JUDGED of each set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling.data.blocks import places
from scaling.data.mixing import uniform
from scaling.data.preparation.cutting import SplitConfig
from scaling.data.preparation.fingerprint import distance_ang, environments, fingerprints
from scaling.data.shards import ShardSet
from scaling.data.split import split
from scaling.structure import FloatArray, IntArray

#: Nearer structures are nearly equal: atoms displaced at random by about 0.02 angstrom, or strained by half a percent.
TOLERANCE_ANG = 0.03
#: Training structures that each judged one is compared with atom by atom, the likeliest.
MAX_CANDIDATES = 8
#: Judged structures that are looked at, evenly over each set.
MAX_JUDGED = 5000
#: Structures of a group that are farther apart than this share of it are far apart.
FAR_SHARE = 0.1
_FRAME_SALT = 3


@dataclass(frozen=True)
class Leaks:
    """Of one judged set: how many structures were looked at, and the near-equal pairs found (at most one each).

    pairs: judged structure, training structure, distance in angstrom.
    nearest_ang: median over the judged structures of the distance of fingerprints to the nearest training structure
        of the same formula; None if none has such.
    """

    num_judged: int
    pairs: Sequence[tuple[int, int, float]] = field(default_factory=tuple)
    nearest_ang: float | None = None

    @property
    def share(self) -> float:
        """Of the judged structures that nearly equal a training structure."""
        return len(self.pairs) / self.num_judged if self.num_judged else 0.0


def leaks_of_splits(shards: ShardSet, config: SplitConfig, num_processes: int = 1) -> dict[str, Leaks]:
    """Leaks of the split by group or block, for each judged set; beside it those of a split by frame of the same
    shares, and where groups are cut those that far-apart structures would have."""
    parts = split(shards, val_share=config.val_share, test_share=config.test_share, seed=config.split_seed)
    blocks = shards.manifest.blocks
    judged = {"val": parts.val, "test": parts.test, **parts.extra_tests}
    by = "by group" if blocks is None else "by block"
    searches = {f"{by}, {name}": _Search(shards, parts.train, part) for name, part in judged.items()}
    place = uniform(np.arange(shards.num_structures), config.split_seed, _FRAME_SALT)
    share = config.test_share or config.val_share
    train, test = np.flatnonzero(place >= config.val_share + config.test_share), np.flatnonzero(place < share)
    searches["by frame, test"] = _Search(shards, train, test)
    if blocks is not None:
        searches["far apart, test"] = _Search(shards, parts.train, parts.test, far=True)
    return _run(shards, searches, num_processes, TOLERANCE_ANG)


def find_leaks(
    shards: ShardSet,
    train: IntArray,
    judged: IntArray,
    num_processes: int = 1,
    *,
    tolerance_ang: float = TOLERANCE_ANG,
) -> Leaks:
    """Look for each judged structure among the training structures of its formula."""
    return _run(shards, {"": _Search(shards, train, judged)}, num_processes, tolerance_ang)[""]


def _run(
    shards: ShardSet, searches: Mapping[str, "_Search"], num_processes: int, tolerance_ang: float
) -> dict[str, Leaks]:
    """All searches, with one look at each structure that any of them trains on."""
    for search in searches.values():
        search.prepare(num_processes, tolerance_ang)
    wanted = np.zeros(shards.num_structures, dtype=bool)
    for search in searches.values():
        wanted |= search.is_train & np.isin(shards.formula, list(search.judged_of))
    for indices, prints in fingerprints(shards, np.flatnonzero(wanted), num_processes):
        formulas = shards.formula[indices]
        for formula in np.unique(formulas).tolist():
            mine = np.flatnonzero(formulas == formula)
            rows = np.stack([prints[k] for k in mine])
            for search in searches.values():
                search.meet(formula, indices[mine], rows)
    return {name: search.found() for name, search in searches.items()}


class _Search:
    """Judged structures in wait for training structures that come by in portions.

    Attributes:
        is_train: (S,). judged_of: for each formula, which of `judged` have it.
    """

    def __init__(self, shards: ShardSet, train: IntArray, judged: IntArray, *, far: bool = False) -> None:
        self.shards = shards
        self.judged = np.sort(judged)[:: max(1, -(-len(judged) // MAX_JUDGED))]
        self.is_train = np.zeros(shards.num_structures, dtype=bool)
        self.is_train[train] = True
        formulas = shards.formula[self.judged]
        self.judged_of = {int(f): np.flatnonzero(formulas == f) for f in np.unique(formulas)}
        self._nearest = np.full(len(self.judged), np.inf)  # squared distance a component
        self._candidates = np.full((len(self.judged), MAX_CANDIDATES), -1)
        self._distances = np.full((len(self.judged), MAX_CANDIDATES), np.inf)
        blocks = shards.manifest.blocks
        self._far = places(shards, blocks) if far and blocks is not None else None

    def prepare(self, num_processes: int, tolerance_ang: float) -> None:
        """Take the fingerprints of the judged structures."""
        self._tolerance_ang = tolerance_ang
        # Means over atoms differ by no more than the atoms do, in the root of the mean square.
        self._reach = (1.5 * tolerance_ang) ** 2
        prints = [row for _, rows in fingerprints(self.shards, self.judged, num_processes) for row in rows]
        self._prints: dict[int, FloatArray] = {
            formula: np.stack([prints[k] for k in rows]) for formula, rows in self.judged_of.items()
        }

    def meet(self, formula: int, structures: IntArray, rows: FloatArray) -> None:
        """Compare with structures (T,) of one formula and their fingerprints (T, D), as far as they are trained on."""
        known = self.is_train[structures]
        if formula not in self.judged_of or not known.any():
            return
        structures, rows = structures[known], rows[known]
        places_of, own = self.judged_of[formula], self._prints[formula]
        squares = (own**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * own @ rows.T
        squares = np.maximum(squares, 0.0) / rows.shape[1]
        if self._far is not None:
            (place, number, lengths), own_rows = self._far, self.judged[places_of]
            away = np.abs(place[own_rows][:, None] - place[structures])
            in_cut = number[own_rows] >= 0
            near = np.where(in_cut, FAR_SHARE * lengths[number[own_rows]], -1)
            squares[away <= near[:, None]] = np.inf
        closest = squares.min(axis=1)
        self._nearest[places_of] = np.minimum(self._nearest[places_of], closest)
        near = np.flatnonzero(closest < self._reach)
        if len(near):
            self._keep_candidates(places_of[near], structures, squares[near])

    def _keep_candidates(self, judged: IntArray, structures: IntArray, squares: FloatArray) -> None:
        distances = np.concatenate([self._distances[judged], squares], axis=1)
        indices = np.concatenate([self._candidates[judged], np.broadcast_to(structures, squares.shape)], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :MAX_CANDIDATES]
        self._distances[judged] = np.take_along_axis(distances, best, axis=1)
        self._candidates[judged] = np.take_along_axis(indices, best, axis=1)

    def found(self) -> Leaks:
        """Compare the likeliest atom by atom."""
        pairs = tuple(self._pairs())
        seen = self._nearest[np.isfinite(self._nearest)]
        return Leaks(len(self.judged), pairs, float(np.sqrt(np.median(seen))) if len(seen) else None)

    def _pairs(self) -> Iterator[tuple[int, int, float]]:
        cutoff_ang = self.shards.manifest.cutoff_ang
        for row in np.flatnonzero(self._distances[:, 0] < self._reach).tolist():
            index = int(self.judged[row])
            own = environments(self.shards.read(index), cutoff_ang)
            for candidate in self._candidates[row][self._distances[row] < self._reach].tolist():
                distance = distance_ang(own, environments(self.shards.read(candidate), cutoff_ang))
                if distance < self._tolerance_ang:
                    yield index, candidate, distance
                    break
