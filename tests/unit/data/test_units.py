"""Units as files spell them."""

import ase.units as u
import pytest

from scaling.data.formats.units import (
    energy_unit_ev,
    force_unit_ev_per_ang,
    length_unit_ang,
    stated_units,
    stress_unit_ev_per_ang3,
)

KCAL = u.kcal / u.mol


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (("eV", "ev", " electronvolt"), 1.0),
        (("Hartree", "hartree", "Ha", "au", "a.u.", "Eh", "E_h"), u.Hartree),
        (("Ry", "rydberg"), u.Rydberg),
        (("kcal/mol", "kcal mol^-1", "kcal_mol", "kcal*mol^-1", "kcal mol-1", "kcal/mole"), KCAL),
        (("kJ/mol", "kj mol^{-1}"), u.kJ / u.mol),
        (("cm^-1", "cm-1", "1/cm"), u.invcm),
        (("meV",), 1e-3),
    ],
)
def test_spellings_of_energies(texts, value):
    assert [energy_unit_ev(text) for text in texts] == [value] * len(texts)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (("eV/Ang", "ev/angstrom", "eV/A", "eV/Å", "eV Å^-1", "eV*Ang^-1", "eV/\u212b"), 1.0),
        (("hartree/bohr", "Ha/Bohr", "au", "Eh/a0", "hartree bohr^-1"), u.Hartree / u.Bohr),
        (("kcal/mol/Ang", "kcal/(mol*Ang)", "kcal/(mol Å)", "kcal mol^-1 Å^-1", "kcal_mol/angstrom"), KCAL),
        (("Hartree/Ang",), u.Hartree),
    ],
)
def test_spellings_of_forces(texts, value):
    assert [force_unit_ev_per_ang(text) for text in texts] == [pytest.approx(value)] * len(texts)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (("eV/Ang^3", "ev/angstrom^3", "eV/A3", "eV/Å³", "eV Å^-3", "eV/Ang**3"), 1.0),
        (("GPa", "gpa"), u.GPa),
        (("kbar", "kB", "kBar"), 0.1 * u.GPa),
        (("-kbar",), -0.1 * u.GPa),
        (("Ha/Bohr^3", "hartree/bohr3"), u.Hartree / u.Bohr**3),
    ],
)
def test_spellings_of_stress(texts, value):
    assert [stress_unit_ev_per_ang3(text) for text in texts] == [pytest.approx(value)] * len(texts)


def test_lengths():
    assert [length_unit_ang(text) for text in ("Ang", "Å", "angstroms", "A", "Bohr", "a0", "nm")] == (
        [1.0] * 4 + [u.Bohr] * 2 + [10.0]
    )


@pytest.mark.parametrize("text", ["", "furlong", "eV/atom", "kcal", "/", "mol", "eV/", "eV^2"])
def test_what_is_not_understood_is_an_error_that_names_it(text):
    for read in (energy_unit_ev, force_unit_ev_per_ang, stress_unit_ev_per_ang3, length_unit_ang):
        with pytest.raises(ValueError, match="that is known"):
            read(text)


def test_entries_that_state_units_are_found():
    entries = {"energy-unit": "Ha", "force_units": "Ha/Bohr", "_distance_unit": "Ang", "stress unit": "GPa"}
    others = {"dipole_unit": "Debye", "energy": -1.0, "unit_cell": "x", "time-unit": "fs"}
    assert {key: text for key, (_, text) in stated_units(entries | others).items()} == {
        "energy": "Ha",
        "forces": "Ha/Bohr",
        "length": "Ang",
        "stress": "GPa",
    }
    for key in ("unit_energy", "unit-energy", "energy-unit", "energyUnit", "units of energy", "unitsEnergy"):
        assert stated_units({key: "Ha"}) == {"energy": (key, "Ha")}
    assert stated_units({"units": "real"})["forces"] == ("units", "kcal/mol/Ang")
    assert stated_units({"e_unit": "kcal/mol", "r_unit": "Ang"}).keys() == {"energy", "length"}
    with pytest.raises(ValueError, match="'lj'"):
        stated_units({"units": "lj"})


@pytest.mark.parametrize("entries", [{"energy_unit": 27.2114}, {"unit_for_energies": "Ha"}, {"energy_unit_file": "Ha"}])
def test_key_that_speaks_of_a_labels_unit_and_is_not_understood_is_refused_by_name(entries):
    with pytest.raises(ValueError, match=next(iter(entries))):
        stated_units(entries)


def test_units_in_nested_metadata_are_found_by_name_and_quantity():
    assert stated_units({"units": {"energy": "Hartree", "positions": "Bohr", "dipole": "Debye", "forces": 1.0}}) == {
        "energy": ("units.energy", "Hartree"),
        "positions": ("units.positions", "Bohr"),
        "length": ("units.positions", "Bohr"),
        "dipole": ("units.dipole", "Debye"),
    }
    assert stated_units({"energy": {"unit": "Hartree", "shape": []}}) == {"energy": ("energy.unit", "Hartree")}
    assert stated_units({"U0": {"unit": "Hartree"}}).keys() == {"U0"}
    assert stated_units({"atomrefs": {"energy": [1.0]}, "info": {"author": "x"}}) == {}
