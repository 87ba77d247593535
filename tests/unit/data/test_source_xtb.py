"""The generator of molecular clusters: labels that are derivatives of one energy, the same bits in every process."""

import builtins
import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("tblite", reason="needs tblite")

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources import xtb
from scaling.data.sources.xtb import ARRANGEMENTS, MAX_ATOMS, MAX_FORCE_EV_PER_ANG, Xtb, label, make_arrangements
from scaling.errors import ConfigError
from scaling.structure import Structure

NUM_DRAWINGS = 64


@pytest.fixture(scope="module")
def entries():
    source = Xtb()
    tasks = itertools.islice(source.tasks(), NUM_DRAWINGS // 16)
    return [entry for task in tasks for entry in source.read(task)]


@pytest.fixture(scope="module")
def structures(entries):
    return [entry for entry in entries if isinstance(entry, Structure)]


def _digest(entries):
    """A hash of every bit."""
    state = hashlib.sha256()
    for entry in entries:
        if isinstance(entry, Rejected):
            state.update(repr(entry).encode())
            continue
        for array in (entry.numbers, entry.positions, entry.cell, entry.pbc, entry.forces, np.float64(entry.energy)):
            state.update(array.tobytes())
        state.update(f"{entry.group} {entry.record}".encode())
    return state.hexdigest()


def test_forces_are_the_derivatives_of_the_energy():
    water, ammonia = molecule("H2O"), molecule("NH3")
    ammonia.positions += [2.6, 0.7, 0.3]
    cluster = water + ammonia
    cluster.positions += np.random.default_rng(0).normal(size=(7, 3)) * 0.05
    energy, forces = label(cluster)
    step = 1e-3
    numerical = np.zeros((7, 3))
    for atom, axis in np.ndindex(7, 3):
        ends = []
        for sign in (1, -1):
            moved = cluster.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(label(moved)[0])
        numerical[atom, axis] = -(ends[0] - ends[1]) / (2 * step)
    assert np.abs(forces).max() > 1.0
    np.testing.assert_allclose(forces, numerical, atol=1e-3)  # third derivatives times step**2 / 6
    assert energy == pytest.approx(label(water)[0] + label(ammonia)[0], abs=2.0)  # bound by less than a covalent bond


def test_energy_of_water_is_that_of_another_program():
    """The xtb program prints -5.070544 hartree for water that it has relaxed; ASE's geometry lies little above."""
    above = label(molecule("H2O"))[0] / 27.211386 + 5.070544
    assert 0 < above < 5e-4


def test_hydrogen_pulled_away_is_pulled_back():
    water = molecule("H2O")
    bond = water.positions[1] - water.positions[0]
    water.positions[1] += 0.2 * bond
    assert label(water)[1][1] @ bond < -1.0


@pytest.mark.parametrize("num_threads", [pytest.param(1, marks=pytest.mark.long), 3])
def test_another_process_makes_the_same_bits_whatever_its_threads_and_order(entries, num_threads):
    """Drawings in opposite order, too; left to itself, tblite's last bits change with the number of threads."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_source_xtb import _digest\n"
        "from scaling.data.sources.xtb import make_arrangements\n"
        "made = {number: list(make_arrangements(0, number)) for number in reversed(range(16))}\n"
        "print(_digest([entry for number in range(16) for entry in made[number]]))\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == _digest(entries[: 16 * ARRANGEMENTS])


def test_digest_sees_the_last_bit(entries):
    """Negative control of the comparison above."""
    shaken = list(entries)
    first = next(k for k, entry in enumerate(entries) if isinstance(entry, Structure))
    forces = entries[first].forces.copy()
    forces[0, 0] = np.nextafter(forces[0, 0], np.inf)
    shaken[first] = Structure(**{**vars(entries[first]), "forces": forces})
    assert _digest(shaken) != _digest(entries)


def test_number_of_threads_of_the_process_is_left_as_it_was():
    with xtb._one_thread():
        openmp = xtb.ctypes.CDLL(sys.modules["tblite._libtblite"].__file__)
        assert openmp.omp_get_max_threads() == 1
    openmp.omp_set_num_threads(3)
    try:
        label(molecule("H2O"))
        assert openmp.omp_get_max_threads() == 3
    finally:
        openmp.omp_set_num_threads(1)


def test_smaller_set_is_the_beginning_of_a_larger_one(entries):
    small, large = Xtb(num_structures=5), Xtb(num_structures=500)
    assert (small.limit(), large.limit()) == (5, 500)
    assert next(small.tasks()) == next(large.tasks())
    assert _digest(small.read(0)) == _digest(large.read(0)) == _digest(entries[: 16 * ARRANGEMENTS])
    assert len(list(itertools.islice(small.tasks(), 1000))) == 1000


def test_another_seed_makes_other_structures(structures):
    others = [entry for entry in make_arrangements(1, 0) if isinstance(entry, Structure)]
    made = {structure.positions.tobytes() for structure in structures}
    assert others
    assert not {other.positions.tobytes() for other in others} & made
    assert Xtb(seed=1).identity() != Xtb().identity()


def test_all_pass_validation_and_few_are_thrown_away(entries, structures):
    assert all(isinstance(validate(structure, Bounds()), Accepted) for structure in structures)
    assert (len(entries) - len(structures)) / len(entries) < 0.15
    assert {entry.reason for entry in entries if isinstance(entry, Rejected)} <= {
        "generated forces too large",
        "generated atoms too close",
    }


def test_clusters_are_small_varied_and_off_equilibrium(structures):
    sizes = Counter(len(structure.numbers) for structure in structures)
    assert min(sizes) >= 6
    assert max(sizes) == MAX_ATOMS
    assert len(sizes) > 12
    assert {z for structure in structures for z in structure.numbers.tolist()} == {1, 6, 7, 8}
    assert all(not structure.pbc.any() and not structure.cell.any() for structure in structures)
    norms = np.linalg.norm(np.concatenate([structure.forces for structure in structures]), axis=1)
    low, high = np.percentile(norms, [5, 90])
    assert low < 0.5
    assert high > 3.0
    assert norms.max() <= MAX_FORCE_EV_PER_ANG


def test_group_names_the_molecules_and_nothing_else(structures):
    compositions = {}
    for structure in structures:
        content = Counter()
        for part in structure.group.removeprefix("xtb ").split(" + "):
            count, name = part.split()
            content.update({z: int(count) * n for z, n in Counter(xtb._BUILT[name].numbers.tolist()).items()})
        assert content == Counter(structure.numbers.tolist())
        compositions.setdefault(structure.group, set()).add(structure.record.split(".")[1])
    assert len(compositions) > NUM_DRAWINGS / 3
    assert any(len(drawings) > 1 for drawings in compositions.values())  # drawn twice, and still one group


def test_short_contacts_and_unconverged_labels_are_rejected(monkeypatch):
    collapsed = Atoms("OHHOHH", np.concatenate([molecule("H2O").positions] * 2) + np.arange(6)[:, None] * 0.05)
    monkeypatch.setattr(xtb, "_arrange", lambda rng, names: collapsed)
    assert {entry.reason for entry in make_arrangements(0, 0)} == {"generated atoms too close"}
    monkeypatch.undo()

    from tblite.interface import Calculator

    singlepoint = Calculator.singlepoint

    def give_up_soon(self):
        self.set("max-iter", 2)
        return singlepoint(self)

    monkeypatch.setattr(Calculator, "singlepoint", give_up_soon)
    rejected = list(make_arrangements(0, 0))
    assert {entry.reason for entry in rejected} == {"SCF did not converge"}
    assert "not converged in 2 cycles" in rejected[0].detail


def test_nothing_is_printed(capfd):
    label(molecule("CH3OH"))
    assert capfd.readouterr() == ("", "")


def test_missing_tblite_is_said_with_its_remedy(monkeypatch):
    real_import = builtins.__import__

    def without_tblite(name, *args, **kwargs):
        if name.startswith("tblite"):
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tblite)
    for attempt in (lambda: Xtb().files(), lambda: list(Xtb().read(0))):
        with pytest.raises(ConfigError, match=r"pip install gnn-scaling\[xtb\]"):
            attempt()


@pytest.mark.parametrize("setting", [{"num_structures": 0}, {"seed": -1}])
def test_senseless_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=rf"source\.{next(iter(setting))}="):
        Xtb(**setting)
