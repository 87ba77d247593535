"""Whether groups are cut into blocks of consecutive structures, and how long blocks and gaps must be.

Sets of one molecule, composition or trajectory are one group, or few. Where the effective number of groups, 1 over the
sum of their squared shares, is below MIN_EFFECTIVE_GROUPS, shares of a tenth fall to no group more often than not, and
every group that is longer than a block is cut.

The gap of a group is as long as its structures stay alike: the first power of two from which on the correlation of
their fingerprints stays below UNCORRELATED. It is the largest of LAGS lags from each power of two to the next, so that
a vibration that is back after a period does not pass for one that was forgotten. Its block is the power of two that
makes BLOCKS of the whole set or somewhat more, but at least BLOCK_PER_GAP gaps, so that gaps cost little, and at most
what makes MIN_BLOCKS of the whole set; where that is short, the gap is half a block, and the correlation that is left
stands in the manifest.

Powers of two, so that a set that grows a little mostly keeps its blocks; `source.group_block` keeps them for good.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.data.blocks import count_blocks
from scaling.data.manifest import Blocks, CutGroup
from scaling.data.preparation.fingerprint import fingerprints
from scaling.data.shards import ShardSet
from scaling.data.split import split
from scaling.errors import ConfigError
from scaling.structure import FloatArray, IntArray

MIN_EFFECTIVE_GROUPS = 10
BLOCKS, MIN_BLOCKS = 200, 40
BLOCK_PER_GAP = 4
#: Training, validation and test.
NUM_SETS = 3
UNCORRELATED = 0.2
#: Structures whose likeness to later ones is measured: over all groups, but so many of each at least.
ANCHORS, MIN_ANCHORS = 256, 128
#: Lags that are looked at from each power of two to the next.
LAGS = 2
#: Groups that are measured, the largest; others are taken to be like the slowest of these.
MAX_MEASURED = 8


@dataclass(frozen=True)
class SplitConfig:
    """A split to try, or to seek leaks of, by the keys of `data`."""

    val_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0


def try_split(shards: ShardSet, config: SplitConfig) -> tuple[str, int]:
    """What will be wrong with a split, or ""; and how many structures it leaves out in gaps between blocks."""
    try:
        parts = split(shards, val_share=config.val_share, test_share=config.test_share, seed=config.split_seed)
    except ConfigError as error:
        return str(error), 0
    cut = () if shards.manifest.blocks is None else shards.manifest.blocks.groups
    worst = max(cut, key=lambda entry: entry.correlation or 0.0, default=None)
    if worst is None or (worst.correlation or 0.0) < UNCORRELATED:
        return "", len(parts.gap)
    alike = sum((entry.correlation or 0.0) >= UNCORRELATED for entry in cut)
    return (
        f"in {alike} of {len(cut)} groups that are cut, structures as far apart as the gap between training and test "
        f"are still alike (correlation {worst.correlation or 0.0:.2f} at {worst.gap}): test errors may flatter; see "
        f"what leaks={shards.path} says, and prepare a longer trajectory, or longer blocks with source.group_block=K"
    ), len(parts.gap)


def cut(shards: ShardSet, rule: int | Blocks | None, num_processes: int = 1) -> Blocks | None:
    """Decide how groups are cut; None: not at all.

    Args:
        rule: of a source, see `StructureSource.group_blocks`.

    Raises:
        ConfigError: if blocks of the length that was asked for leave fewer of them than a split has sets.
    """
    if isinstance(rule, Blocks):
        return replace(rule, num_blocks=count_blocks(shards, rule))
    longest = _longest(shards, rule)
    if longest == 0:
        return None
    groups, sizes = _free_groups(shards)
    total = int(sizes.sum())
    if rule and (left := int(np.ceil(sizes / rule).sum())) < NUM_SETS:
        raise ConfigError(
            f"source.group_block={rule} leaves {left} blocks of {total} structures, too few for training, validation "
            f"and test; use at most {max(1, total // MIN_BLOCKS)}"
        )
    shortest = rule or min(longest, _power_of_two(total // BLOCKS))
    by_size = np.argsort(-sizes, kind="stable")
    by_size = by_size[sizes[by_size] > shortest]
    measured = [_Correlation(curve) for curve in correlations(shards, groups[by_size[:MAX_MEASURED]], num_processes)]
    widest = max((curve.apart for curve in measured), default=1)
    found = []
    for number, k in enumerate(by_size.tolist()):
        curve = measured[number] if number < len(measured) else None
        apart = widest if curve is None else curve.apart
        length = rule or min(longest, max(shortest, BLOCK_PER_GAP * apart))
        if sizes[k] > length:
            gap = min(apart, _power_of_two(length // 2))
            found.append(CutGroup(int(groups[k]), length, gap, None if curve is None else curve.at[gap]))
    if not found:
        return None
    blocks = Blocks(tuple(sorted(found, key=lambda entry: entry.group)), 0)
    return replace(blocks, num_blocks=count_blocks(shards, blocks))


def is_cut_so(shards: ShardSet, rule: int | Blocks | None) -> bool:
    """Whether a prepared set is cut as the rule would have it cut, as far as that is known without measuring."""
    found = shards.manifest.blocks
    if isinstance(rule, Blocks):
        return found == replace(rule, num_blocks=count_blocks(shards, rule))
    if rule:
        _, sizes = _free_groups(shards)
        return {entry.length for entry in found.groups} == {rule} if found is not None else not (sizes > rule).any()
    return (found is not None) == (_longest(shards, rule) > 0)


@dataclass(frozen=True)
class _Correlation:
    """By lag; apart: the first lag from which on it is low, or the last one."""

    at: dict[int, float]

    @property
    def apart(self) -> int:
        alike = max((lag for lag, left in self.at.items() if left >= UNCORRELATED), default=0)
        return min(max(1, 2 * alike), max(self.at))


def correlations(shards: ShardSet, groups: IntArray, num_processes: int = 1) -> list[dict[int, float]]:
    """Of each group, how alike structures are that stand 1, 2 to 3, 4 to 7, ... places apart, up to half of the group.

    1 - D(lag) / D, D being the mean squared distance of fingerprints of any two structures of a formula, D(lag) of
    those so far apart; the largest of LAGS such. Structures of different formulas are not alike: 0.
    """
    pairs: list[dict[int, list[IntArray]]] = []
    starts = []
    for group in groups.tolist():
        frames = np.flatnonzero(shards.group == group)
        count = max(MIN_ANCHORS, ANCHORS // len(groups))
        anchors = np.unique(np.linspace(0, len(frames) - 1, count).astype(np.int64))
        starts.append(frames[anchors])
        pairs.append({})
        for lag in (2**k for k in range(max(1, len(frames) // 2).bit_length())):
            steps = sorted({lag + lag * part // LAGS for part in range(LAGS)})
            tried = [(anchors[number :: len(steps)], step) for number, step in enumerate(steps)]
            kept = [(a[a + step < len(frames)], step) for a, step in tried]
            if found := [frames[np.stack([a, a + step])] for a, step in kept if len(a)]:
                pairs[-1][lag] = found
    wanted = np.unique(
        np.concatenate(
            [np.zeros(0, np.int64), *starts, *(p.ravel() for of in pairs for some in of.values() for p in some)]
        )
    )
    prints: dict[int, FloatArray] = {}
    for indices, rows in fingerprints(shards, wanted, num_processes):
        prints |= dict(zip(indices.tolist(), rows, strict=True))
    curves = []
    for start, by_lag in zip(starts, pairs, strict=True):
        spread = _spread(shards, prints, start)
        curves.append({lag: max(_alike(shards, prints, p, spread) for p in some) for lag, some in by_lag.items()})
    return curves


def _spread(shards: ShardSet, prints: dict[int, FloatArray], structures: IntArray) -> dict[int, float]:
    """Mean squared distance between any two structures of each formula."""
    formulas = shards.formula[structures]
    found = {}
    for formula in np.unique(formulas).tolist():
        rows = np.stack([prints[index] for index in structures[formulas == formula].tolist()])
        if len(rows) > 1:
            found[formula] = 2 * float(rows.var(axis=0, ddof=1).sum())
    return found


def _alike(shards: ShardSet, prints: dict[int, FloatArray], pairs: IntArray, spread: dict[int, float]) -> float:
    """Of pairs (2, P)."""
    values = []
    for one, other in pairs.T.tolist():
        formula = int(shards.formula[one])
        whole = spread.get(formula, 0.0)
        known = formula == shards.formula[other] and whole > 0
        values.append(1 - float(((prints[one] - prints[other]) ** 2).sum()) / whole if known else 0.0)
    return float(np.mean(values))


def _longest(shards: ShardSet, rule: int | None) -> int:
    """The longest block that may be; 0 where no group is to be cut."""
    if rule is not None:
        return rule
    _, sizes = _free_groups(shards)
    total = int(sizes.sum())
    too_few = total > 0 and total**2 / float((sizes.astype(np.float64) ** 2).sum()) < MIN_EFFECTIVE_GROUPS
    return _power_of_two(total // MIN_BLOCKS) if too_few and total >= 2 * MIN_BLOCKS else 0


def _free_groups(shards: ShardSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Groups, and the structures of each, that are not held out by the source."""
    return np.unique(shards.group[shards.holdout == 0], return_counts=True)


def _power_of_two(number: int) -> int:
    """The largest that is not above the number, or 1."""
    return 1 << max(0, number.bit_length() - 1)
