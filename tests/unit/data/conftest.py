"""Structures made by hand, and a source that lists them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from scaling.data.manifest import Part
from scaling.data.preparation.pipeline import prepare
from scaling.data.shards import ShardSet
from scaling.data.source import slices
from scaling.structure import Structure


@dataclass(frozen=True)
class Listed:
    """A source of given entries; `label` stands for its settings."""

    entries: tuple
    name: str = "listed"
    label: str = ""

    def identity(self):
        return {"label": self.label}

    def not_read(self):
        return ()

    def files(self):
        return {}

    def parts(self):
        return (Part(self.name, 1.0, ""),)

    def num_expected(self):
        return len(self.entries)

    def limit(self):
        return None

    def tasks(self):
        return slices(len(self.entries), 7)

    def read(self, task):
        yield from self.entries[slice(*task)]


def _make_structure(seed=0, **changes):
    """A random structure of 2 to 5 atoms in a 5 angstrom cell, far enough apart, with random labels."""
    rng = np.random.default_rng(seed)
    num_atoms = int(rng.integers(2, 6))
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    structure = Structure(
        numbers=rng.choice([13, 29, 47], num_atoms),
        positions=rng.permutation(corners)[:num_atoms] * 2.5 + rng.uniform(-0.4, 0.4, (num_atoms, 3)),
        cell=np.eye(3) * 5.0 + rng.uniform(-0.1, 0.1, (3, 3)),
        pbc=np.array([True, True, seed % 2 == 0]),
        energy=float(rng.normal() * 10),
        forces=rng.normal(size=(num_atoms, 3)),
        group=f"group {seed // 3}",
        record=f"made#{seed}",
    )
    return replace(structure, **changes)


@pytest.fixture
def make_structure():
    return _make_structure


@pytest.fixture
def listed():
    """Turn a list of entries into a source."""
    return lambda entries, label="": Listed(tuple(entries), label=label)


@pytest.fixture
def prepared(tmp_path):
    """Prepare a list of entries and open the result."""

    def prepare_and_open(entries, name="data", **options):
        prepare(Listed(tuple(entries)), tmp_path / name, progress=False, **options)
        return ShardSet(tmp_path / name)

    return prepare_and_open
