"""Whether groups are cut into blocks of consecutive structures, and how long blocks and gaps must be.

Sets of one molecule, composition or trajectory are one group, or few. Where the effective number of groups, 1 over the
sum of their squared shares, is below MIN_EFFECTIVE_GROUPS, shares of a tenth fall to no group more often than not, and
groups are cut. A gap is as long as structures of a group stay alike: the first power of two at which the correlation
of their fingerprints is below UNCORRELATED. A block is the power of two that makes BLOCKS of the whole set or somewhat
more, but at least BLOCK_PER_GAP gaps, so that gaps cost little, and at most what leaves MIN_BLOCKS; where that is
short, the gap is half a block, and the correlation left over stands in the manifest.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.data.blocks import count_blocks
from scaling.data.manifest import Blocks
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
UNCORRELATED = 0.1
#: Structures whose likeness to later ones is measured, over all groups, and the groups among which they are chosen.
ANCHORS, MAX_GROUPS_MEASURED = 256, 8


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
    blocks, problem = shards.manifest.blocks, ""
    if blocks is not None and blocks.correlation is not None and blocks.correlation >= UNCORRELATED:
        problem = (
            f"structures {blocks.gap} apart, which is the gap between training and test, are still alike (correlation "
            f"{blocks.correlation:.2f}): test errors will flatter; look at leaks={shards.path}, or prepare a longer "
            "trajectory, or longer blocks with source.group_block=K"
        )
    return problem, len(parts.gap)


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
    if rule is not None and (left := int(np.ceil(sizes / rule).sum())) < NUM_SETS:
        raise ConfigError(
            f"source.group_block={rule} leaves {left} blocks of {sizes.sum()} structures, too few for training, "
            f"validation and test; use at most {max(1, int(sizes.sum()) // MIN_BLOCKS)}"
        )
    largest = groups[np.argsort(-sizes, kind="stable")][:MAX_GROUPS_MEASURED]
    correlation = correlation_by_lag(shards, largest, num_processes)
    apart = next((lag for lag, left in correlation.items() if left < UNCORRELATED), max(correlation))
    length = rule or min(longest, max(_power_of_two(int(sizes.sum()) // BLOCKS), BLOCK_PER_GAP * apart))
    cut_groups = np.sort(groups[sizes > length])
    if not len(cut_groups):
        return None
    gap = min(apart, _power_of_two(length // 2))
    blocks = Blocks(length, gap, tuple(cut_groups.tolist()), 0, correlation[gap])
    return replace(blocks, num_blocks=count_blocks(shards, blocks))


def is_cut_so(shards: ShardSet, rule: int | Blocks | None) -> bool:
    """Whether a prepared set is cut as the rule would have it cut, as far as that is known without measuring."""
    found = shards.manifest.blocks
    if isinstance(rule, Blocks):
        return found == replace(rule, num_blocks=count_blocks(shards, rule))
    if rule:
        _, sizes = _free_groups(shards)
        return found.length == rule if found is not None else not (sizes > rule).any()
    return (found is not None) == (_longest(shards, rule) > 0)


def correlation_by_lag(shards: ShardSet, groups: IntArray, num_processes: int = 1) -> dict[int, float]:
    """How alike structures of a group are that stand 1, 2, 4, ... places apart, up to half of the largest group.

    1 - D(lag) / D, D being the mean squared distance of their fingerprints, D(lag) that of pairs so far apart; the mean
    over pairs in all groups. Structures of different formulas are not alike: 0.
    """
    frames = [np.flatnonzero(shards.group == group) for group in groups.tolist()]
    anchors = [np.unique(np.linspace(0, len(f) - 1, ANCHORS // len(frames)).astype(np.int64)) for f in frames]
    lags = [2**k for k in range(max(2, max(map(len, frames)) // 2).bit_length())]
    pairs = {
        lag: [(f[a[a + lag < len(f)]], f[a[a + lag < len(f)] + lag]) for f, a in zip(frames, anchors, strict=True)]
        for lag in lags
    }
    starts = [f[a] for f, a in zip(frames, anchors, strict=True)]
    wanted = np.unique(np.concatenate([*starts, *(side for of in pairs.values() for pair in of for side in pair)]))
    prints: dict[int, FloatArray] = {}
    for indices, found in fingerprints(shards, wanted, num_processes):
        prints |= dict(zip(indices.tolist(), found, strict=True))
    spread = [_spread(shards, prints, start) for start in starts]
    return {lag: _alike(shards, prints, pairs[lag], spread) for lag in lags if any(len(a) for a, _ in pairs[lag])}


def _spread(shards: ShardSet, prints: dict[int, FloatArray], structures: IntArray) -> dict[int, float]:
    """Mean squared distance between any two structures of each formula."""
    formulas = shards.formula[structures]
    found = {}
    for formula in np.unique(formulas).tolist():
        rows = np.stack([prints[index] for index in structures[formulas == formula].tolist()])
        if len(rows) > 1:
            found[formula] = 2 * float(rows.var(axis=0, ddof=1).sum())
    return found


def _alike(
    shards: ShardSet,
    prints: dict[int, FloatArray],
    pairs: list[tuple[IntArray, IntArray]],
    spread: list[dict[int, float]],
) -> float:
    values = []
    for (before, after), of_formula in zip(pairs, spread, strict=True):
        for one, other in zip(before.tolist(), after.tolist(), strict=True):
            formula = int(shards.formula[one])
            whole = of_formula.get(formula, 0.0)
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
