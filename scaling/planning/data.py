"""What a plan must know of the data."""

from dataclasses import dataclass, replace
from functools import cache

from scaling.config import DataConfig, PlanConfig, RunConfig
from scaling.data import ShardSet, Split, choose
from scaling.structure import IntArray
from scaling.training import count_edges


@dataclass(frozen=True)
class Data:
    """What a plan must know of the data.

    num_structures: to train on at fraction 1. num_atoms, num_edges: of their mean. largest_edges: of any structure.
    num_val, num_test: structures judged at each validation, and once at the end. has_forces: whether training
    structures have them, so that they are learned.
    """

    num_structures: int
    num_atoms: float
    num_edges: float
    num_elements: int
    largest_edges: float
    num_val: float
    num_test: float
    has_forces: bool = True


def data_of(config: RunConfig) -> Data:
    """From the plan's own numbers, or from the prepared data.

    Raises:
        DataError: if neither is there.
        ConfigError: if the run's fraction of the data picks nothing.
    """
    labels = tuple(config.train.labels.items())
    if not config.plan.num_structures:
        _chosen(config.data, labels)
    return _data_of(replace(config.data, fraction=1.0), config.plan, labels)


@cache
def _chosen(data: DataConfig, labels: tuple[tuple[str, str], ...]) -> tuple[Split, IntArray]:
    return choose(data, ShardSet(data.path), dict(labels))


@cache
def _data_of(data: DataConfig, given: PlanConfig, labels: tuple[tuple[str, str], ...]) -> Data:
    if given.num_structures:
        whole = given.num_structures / (1 - data.val_share - data.test_share)
        mean = (given.num_atoms, given.num_edges, given.num_elements, given.num_edges)
        return Data(given.num_structures, *mean, data.val_share * whole, data.test_share * whole)
    shards = ShardSet(data.path)
    split, train = _chosen(data, labels)
    edges, atoms = count_edges(shards, data.cutoff_ang), shards.num_atoms[train]
    mean = (float(atoms.mean()), float(edges[train].mean()), len(shards.manifest.elements), float(edges.max()))
    num_test = len(split.test) + sum(len(apart) for apart in split.extra_tests.values())
    return Data(len(train), *mean, len(split.val), num_test, bool(shards.has("forces")[train].any()))
