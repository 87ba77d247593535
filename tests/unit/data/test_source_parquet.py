"""Parquet of atoms in the layouts of ColabFit and LeMat-Traj: labels, units, groups, and what is wrong with files."""

import ase.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.data.manifest import Rejected
from scaling.data.sources.parquet import Parquet
from scaling.errors import DataError
from scaling.structure import Structure


def values(num=5, seed=0):
    rng = np.random.default_rng(seed)
    places = np.array([[0.0, 0, 0], [1.5, 1.25, 1.0]]) + rng.normal(0, 0.05, (num, 2, 3))
    stress = rng.normal(size=(num, 3, 3))
    return places, rng.normal(-20, 1, num), rng.normal(size=(num, 2, 3)), stress + stress.transpose(0, 2, 1)


def colabfit(**changes):
    """Columns of materials.colabfit.org/docs/configuration_schema."""
    places, energies, forces, stress = values()
    return {
        "configuration_id": [f"CO_{k}" for k in range(5)],
        "names": [["a", "b"]] * 5,
        "method": ["DFT-PBE"] * 5,
        "atomic_numbers": [[42, 8]] * 5,
        "positions": places.tolist(),
        "cell": [np.diag([4.0, 5.0, 6.0]).tolist()] * 5,
        "pbc": [[True, True, False]] * 5,
        "energy": energies.tolist(),
        "atomic_forces": forces.tolist(),
        "cauchy_stress": stress.tolist(),
        "cauchy_stress_volume_normalized": [True] * 5,
        "formation_energy": [None] * 5,
        "max_force_norm": [1.0] * 5,
        **changes,
    }


def lemat(**changes):
    """Columns of LeMaterial/LeMat-Traj."""
    places, energies, forces, stress = values()
    return {
        "immutable_id": ["agm1", "agm1", "agm2", "agm2", "agm3"],
        "species_at_sites": [["Mo", "O"]] * 5,
        "cartesian_site_positions": places.tolist(),
        "lattice_vectors": [np.diag([4.0, 5.0, 6.0]).tolist()] * 5,
        "dimension_types": pa.array([[1, 1, 1]] * 5, pa.list_(pa.int8())),
        "energy": energies.tolist(),
        "energy_corrected": [0.0] * 5,
        "forces": forces.tolist(),
        "stress_tensor": stress.tolist(),
        **changes,
    }


def read(tmp_path, columns, metadata=None, **settings):
    table = pa.table(columns)
    table = table.replace_schema_metadata(metadata) if metadata else table
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=2)
    source = Parquet(path=str(tmp_path), **settings)
    tasks = list(source.tasks())
    assert len(tasks) == 3
    return [entry for task in tasks for entry in source.read(task)]


def test_colabfit_is_read_exactly(tmp_path):
    places, energies, forces, stress = values()
    entries = read(tmp_path, colabfit())
    assert [entry.record for entry in entries] == [f"set.parquet#{k}" for k in range(5)]
    for k, entry in enumerate(entries):
        assert entry.numbers.tolist() == [42, 8]
        assert entry.energy == energies[k]
        np.testing.assert_array_equal(entry.positions, places[k])
        np.testing.assert_array_equal(entry.forces, forces[k])
        np.testing.assert_array_equal(entry.stress, stress[k])
        np.testing.assert_array_equal(entry.cell, np.diag([4.0, 5.0, 6.0]))
        assert entry.pbc.tolist() == [True, True, False]
        assert entry.group == "Mo1 O1"
    by_volume = read(tmp_path, colabfit(cauchy_stress_volume_normalized=[False] * 5))
    np.testing.assert_allclose(by_volume[0].stress, stress[0] / 120.0)


def test_lemat_needs_the_unit_of_its_stress_and_has_groups_by_column(tmp_path):
    _, energies, forces, stress = values()
    refused = read(tmp_path, lemat())
    assert {entry.reason for entry in refused} == {"malformed record"}
    assert "no unit of stress is stated: say source.stress_unit" in refused[0].detail
    entries = read(tmp_path, lemat(), stress_unit="-kbar", group_key="immutable_id")
    assert [entry.group for entry in entries] == ["agm1", "agm1", "agm2", "agm2", "agm3"]
    assert entries[1].energy == energies[1]
    np.testing.assert_array_equal(entries[1].forces, forces[1])
    np.testing.assert_allclose(entries[1].stress, -0.1 * u.GPa * stress[1], rtol=1e-14)
    assert entries[1].numbers.tolist() == [42, 8]
    assert entries[1].pbc.all()


def test_other_columns_need_a_unit_stated_or_set(tmp_path):
    places, energies, forces, _ = values()
    columns = {"numbers": [[42, 8]] * 5, "pos": places.tolist(), "energy": energies.tolist(), "forces": forces.tolist()}
    with pytest.raises(DataError, match=r"does not state the unit of its energies: say source\.energy_unit"):
        read(tmp_path, columns)
    assert read(tmp_path, columns, energy_unit="eV")[0].energy == energies[0]
    stated = {"energy_unit": "Hartree", "force_unit": "Hartree/Bohr"}
    by_metadata = read(tmp_path, columns, metadata=stated)
    by_column = read(tmp_path, columns | {key: [value] * 5 for key, value in stated.items()})
    for entry in (by_metadata[0], by_column[0]):
        assert entry.energy == energies[0] * u.Hartree
        np.testing.assert_array_equal(entry.forces, forces[0] * (u.Hartree / u.Bohr))
        assert not entry.pbc.any()
    with pytest.raises(DataError, match=r"states energy_unit=Hartree, but source\.energy_unit=eV"):
        read(tmp_path, columns, metadata=stated, energy_unit="eV")


def test_labels_may_be_missing_by_row(tmp_path):
    forces = values()[2].tolist()
    entries = read(tmp_path, colabfit(atomic_forces=[None, *forces[1:]], cauchy_stress=[None] * 5))
    assert all(isinstance(entry, Structure) and entry.stress is None for entry in entries)
    assert [entry.forces is None for entry in entries] == [True] + [False] * 4
    nothing = read(tmp_path, colabfit(atomic_forces=[None] * 5, energy=[None] * 5))
    assert {entry.reason for entry in nothing} == {"missing energy and forces"}


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": [[[0.0, 0.0], [1.0]]] * 5},
        {"positions": [None] * 5},
        {"atomic_numbers": [["Mo", "Xx"]] * 5},
        {"cell": [[[1.0, 2.0]]] * 5},
        {"energy": ["low"] * 5},
        {"pbc": [[True]] * 5},
    ],
)
def test_malformed_row_is_rejected(changes, tmp_path):
    entries = read(tmp_path, colabfit(**changes))
    assert [(type(entry), entry.reason) for entry in entries] == [(Rejected, "malformed record")] * 5


def test_table_of_something_else_and_damaged_file_are_errors_that_name_it(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has no column of atomic numbers; it has a"):
        list(Parquet(path=str(tmp_path)).tasks())
    pq.write_table(pa.table(colabfit()), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    for damaged in (b"", b"hello", content[:-7], content[: len(content) // 2], content[:-60] + bytes(60)):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.parquet is not a whole Parquet file"):
            list(Parquet(path=str(tmp_path)).tasks())
