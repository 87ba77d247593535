"""Labels by name: where they are looked for, their signs and units, and what is said where they are not found."""

import ase.units as u
import numpy as np
import pytest

from scaling.data.formats import KeyedSource, Record
from scaling.data.manifest import Rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

FORCES = np.array([[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])
STRESS = np.array([[1.0, 0.2, 0.3], [0.2, 2.0, 0.4], [0.3, 0.4, 3.0]])
VOIGT = [1.0, 2.0, 3.0, 0.4, 0.3, 0.2]
VOLUME = 4.0 * 5.0 * 6.0


def record(sections=None, *, cell=(4.0, 5.0, 6.0), stated=None, layout=None, arrays=("arrays",), **header):
    return Record(
        label="set#0",
        numbers=np.array([42, 8]),
        positions=np.array([[0.0, 0, 0], [1.5, 1.25, 1.0]]),
        cell=np.diag(cell),
        pbc=np.ones(3, dtype=bool),
        sections=sections or {"header": {"energy": -2.0, **header}, "arrays": {"forces": FORCES}},
        arrays=arrays,
        stated=stated or {},
        layout=layout or {},
    )


def structure(entry, **settings):
    found = KeyedSource(**settings)._structure(entry)
    assert isinstance(found, Structure), found
    return found


def rejected(entry, **settings):
    found = KeyedSource(**settings)._structure(entry)
    assert isinstance(found, Rejected), found
    return found


def test_first_section_that_has_a_label_counts():
    sections = {"calculator": {"forces": FORCES}, "info": {"energy": -1.0}, "data": {"energy": -1.0}}
    found = structure(record(sections))
    assert found.energy == -1.0
    np.testing.assert_array_equal(found.forces, FORCES)
    chosen = structure(record({**sections, "info": {"E_total": -3.0, "energy": -1.0}}), energy_key="E_total")
    assert chosen.energy == -3.0


@pytest.mark.parametrize("missing", ["energy", "forces"])
def test_either_label_may_be_missing_where_nothing_looks_like_it(missing):
    sections = {"info": {"energy": -1.0, "step": 3}, "arrays": {"forces": FORCES, "magmoms": FORCES}}
    sections = {name: {k: v for k, v in section.items() if k != missing} for name, section in sections.items()}
    found = structure(record(sections))
    assert (found.energy is None, found.forces is None) == (missing == "energy", missing == "forces")
    assert found.stress is None


@pytest.mark.parametrize(
    ("sections", "reason", "words"),
    [
        ({"info": {"energy": -1.0}, "arrays": {"vasp_force": FORCES}}, "missing forces", ("vasp_force", "forces_key")),
        ({"info": {"E0_energy": 1.0}, "arrays": {"forces": FORCES}}, "missing energy", ("E0_energy", "energy_key")),
        (
            {"info": {"vasp_energy": -1.0}, "arrays": {"vasp_force": FORCES}},
            "missing energy and forces",
            ("info: vasp_energy", "arrays: vasp_force", "source.energy_key, source.forces_key"),
        ),
        ({"info": {}, "arrays": {}}, "missing energy and forces", ("info: nothing",)),
        (
            {"info": {"energy": 1.0, "dft_stress_xx": VOIGT}, "arrays": {}},
            "missing stress",
            ("dft_stress_xx", "stress_key"),
        ),
    ],
)
def test_label_by_another_name_is_never_passed_over(sections, reason, words):
    found = rejected(record(sections))
    assert found.reason == reason
    assert all(word in found.detail for word in words), found.detail


def test_scalar_that_only_sounds_like_forces_hides_nothing():
    sections = {"info": {"energy": -1.0, "max_force": 0.3, "force_converged": True}, "arrays": {}}
    assert structure(record(sections)).forces is None


def test_values_of_atoms_are_no_label_of_the_whole():
    columns = {"forces": FORCES, "virial": np.ones((2, 9)), "energy": np.ones(2), "stress": np.ones((2, 6))}
    found = structure(record({"header": {"energy": -1.0}, "columns": columns}, arrays=("columns",)))
    assert (found.energy, found.stress) == (-1.0, None)
    alone = structure(record({"header": {}, "columns": columns}, arrays=("columns",)))
    assert alone.energy is None


def test_names_from_files_are_printed_on_one_line():
    found = rejected(record({"header": {"a\nb\u2603": 1.0}}))
    assert "a b\\u2603" in found.detail


@pytest.mark.parametrize(
    ("what", "value", "other"), [("energy", -1.0, -9.0), ("forces", FORCES, -FORCES), ("stress", VOIGT, VOIGT[::-1])]
)
def test_sections_that_disagree_are_an_error_that_the_key_mends(what, value, other):
    sections = {"calculator": {"energy": -1.0, "forces": FORCES, what: value}, "info": {what: value}}
    assert isinstance(structure(record(sections)), Structure)
    sections["info"] = {what: other}
    with pytest.raises(ValueError, match=rf"calculator: {what} and info: {what} disagree.*source\.{what}_key"):
        KeyedSource()._structure(record(sections))
    structure(record(sections), **{f"{what}_key": what})


def test_sections_may_differ_in_shape_and_in_the_last_digit():
    sections = {
        "calculator": {"energy": -30000.0, "stress": STRESS},
        "info": {"energy": [-30000.000009], "stress": VOIGT},
    }
    assert structure(record(sections)).energy == -30000.0
    sections["info"]["energy"] = -30000.001
    with pytest.raises(ValueError, match="disagree"):
        KeyedSource()._structure(record(sections))


def test_label_whose_key_is_set_and_not_there_is_none_and_noted():
    found = structure(record(vasp_energy=1.0), energy_key="U0")
    assert (found.energy, found.notes) == (None, ("source.energy_key=U0 is not there",))
    np.testing.assert_array_equal(found.forces, FORCES)
    assert structure(record(), stress_key="s").stress is None
    found = rejected(record({"header": {"energy": -2.0}}), energy_key="U0", forces_key="F")
    assert found.reason == "missing energy and forces"
    assert found.detail.startswith(
        "source.energy_key=U0 is not there; source.forces_key=F is not there; found header: e"
    )


@pytest.mark.parametrize("what", ["energy", "forces", "stress", "charge", "spin"])
def test_label_whose_key_is_none_is_not_read(what):
    entry = record(stress=STRESS, charge=1, spin=2)
    assert getattr(structure(entry), what) is not None
    found = structure(entry, **{f"{what}_key": "none"})
    assert (getattr(found, what), found.notes) == (None, ())


def test_none_of_energy_and_forces_leaves_a_set_of_stress():
    found = structure(record(stress=STRESS), energy_key="none", forces_key="none")
    assert (found.energy, found.forces) == (None, None)
    assert rejected(record(), energy_key="none", forces_key="none").reason == "missing stress"


def test_gradients_are_forces_with_the_other_sign():
    of_gradient = structure(record({"a": {"energy": 1.0, "gradients": FORCES}}))
    by_key = structure(record({"a": {"energy": 1.0, "dft_total_gradient": FORCES}}), forces_key="dft_total_gradient")
    for found in (of_gradient, by_key):
        np.testing.assert_array_equal(found.forces, -FORCES)


@pytest.mark.parametrize("value", [STRESS, STRESS.ravel(), VOIGT, STRESS.tolist()])
def test_stress_of_six_or_nine_numbers_is_positive_under_tension(value):
    np.testing.assert_array_equal(structure(record(stress=value)).stress, STRESS)
    virial = structure(record(virial=np.asarray(value) * -VOLUME)).stress
    np.testing.assert_allclose(virial, STRESS, rtol=1e-15)
    in_kbar = structure(record(stress=np.asarray(value) / (0.1 * u.GPa)), stress_unit="kbar").stress
    of_vasp = structure(record(stress=-np.asarray(value) / (0.1 * u.GPa)), stress_unit="-kbar").stress
    for found in (in_kbar, of_vasp):
        np.testing.assert_allclose(found, STRESS, rtol=1e-14)


def test_wrong_sign_or_order_of_stress_would_be_seen():
    assert not np.allclose(structure(record(virial=STRESS * VOLUME)).stress, STRESS)
    of_vasp_order = [VOIGT[k] for k in (0, 1, 2, 5, 3, 4)]  # xx yy zz xy yz zx
    assert not np.allclose(structure(record(stress=of_vasp_order)).stress, STRESS)


def test_stress_and_virial_must_agree_up_to_the_sign():
    both = {"stress": STRESS, "virial": -VOLUME * STRESS}
    np.testing.assert_array_equal(structure(record(**both)).stress, STRESS)
    with pytest.raises(ValueError, match=r"stress and virial disagree.*source\.stress_key"):
        KeyedSource()._structure(record(**(both | {"virial": VOLUME * STRESS})))
    chosen = structure(record(**(both | {"virial": VOLUME * STRESS})), stress_key="stress")
    np.testing.assert_array_equal(chosen.stress, STRESS)


def test_virial_without_a_cell_is_an_error_unless_it_is_nought():
    assert structure(record(cell=(0.0, 0.0, 0.0), virial=np.zeros(9))).stress is None
    with pytest.raises(ValueError, match="no cell"):
        KeyedSource()._structure(record(cell=(0.0, 0.0, 0.0), virial=STRESS))


def test_stress_of_nan_is_not_there():
    assert structure(record(stress=np.full(6, np.nan))).stress is None


@pytest.mark.parametrize("value", [np.ones(5), np.ones((3, 2)), np.ones((6, 2)), "text", [1, "x"]])
def test_stress_of_another_shape_is_an_error(value):
    with pytest.raises(ValueError, match="stress"):
        KeyedSource()._structure(record(stress=value))


def test_charge_and_multiplicity_are_read_by_their_usual_names():
    found = structure(record(charge=-1, spin=2))
    assert (found.charge, found.spin) == (-1, 2)
    found = structure(record(total_charge=np.float64(1.0), multiplicity=3))
    assert (found.charge, found.spin) == (1, 3)
    found = structure(record(charge=0, spin=0))
    assert (found.charge, found.spin) == (0, None)
    of_atoms = {"header": {"energy": 1.0}, "arrays": {"charge": np.array([0.5, -0.5]), "forces": FORCES}}
    assert structure(record(of_atoms)).charge is None
    for name in ("total_spin", "multiplicity", "spin_multiplicity"):
        assert structure(record(charge="-1", **{name: "2"})).spin == 2
    found = structure(record(q=-1, S=2), charge_key="q", spin_key="S")
    assert (found.charge, found.spin) == (-1, 2)
    with pytest.raises(ValueError, match=r"charge 0\.5 is not a whole number"):
        KeyedSource()._structure(record(charge=0.5))


@pytest.mark.parametrize(
    ("name", "what"),
    [("net_charge", "charge"), ("chargeState", "charge"), ("spin-mult", "spin"), ("2S+1 multiplicity", "spin")],
)
def test_what_looks_like_charge_or_spin_is_noted_and_read_by_its_key(name, what):
    (note,) = structure(record(**{name: 2})).notes
    assert name in note
    assert f"source.{what}_key={name}" in note
    assert getattr(structure(record(**{name: 2}), **{f"{what}_key": name}), what) == 2
    for quiet in ({name: np.ones(2)}, {name: True}, {name: "text"}, {name.replace("char", "disch"): "x"}):
        assert structure(record(**quiet)).notes == ()


@pytest.mark.parametrize("name", ["F", "F_dft", "frc", "dE_dx", "Kraft"])
def test_three_numbers_an_atom_that_may_be_forces_are_noted(name):
    def sections(**arrays):
        return {"header": {"energy": 1.0}, "arrays": arrays}

    (note,) = structure(record(sections(**{name: FORCES}))).notes
    assert f"{name} may be forces, and is not read: source.forces_key={name} reads it" in note
    np.testing.assert_array_equal(structure(record(sections(**{name: FORCES})), forces_key=name).forces, FORCES)
    assert structure(record(sections(**{name: FORCES})), forces_key="none").notes == ()
    assert structure(record(sections(momenta=FORCES, **{name: np.ones(2)}))).notes == ()


def test_units_by_setting_by_the_file_and_by_the_layout():
    hartree = {"energy": ("energy-unit", "hartree"), "forces": ("force-unit", "hartree/bohr")}
    for found in (
        structure(record(), energy_unit="Hartree", force_unit="Hartree/Bohr"),
        structure(record(stated=hartree)),
        structure(record(stated=hartree), energy_unit="Hartree"),
        structure(record(layout={"energy": "Hartree", "forces": "Hartree/Bohr"})),
    ):
        assert found.energy == -2.0 * u.Hartree
        np.testing.assert_array_equal(found.forces, FORCES * (u.Hartree / u.Bohr))
    over_ang = structure(record(layout={"energy": "Hartree", "forces": "Hartree/Bohr"}), energy_unit="kcal/mol")
    np.testing.assert_allclose(over_ang.forces, FORCES * (u.kcal / u.mol))


def test_unit_of_a_label_by_its_name_counts_before_that_of_the_quantity():
    sections = {"data": {"energy_U0": -2.0, "energy": -9.0}}
    stated = {"energy_U0": ("metadata", "Hartree"), "energy": ("metadata", "eV")}
    assert structure(record(sections, stated=stated), energy_key="energy_U0").energy == -2.0 * u.Hartree


def test_setting_that_contradicts_the_file_is_an_error_that_names_both():
    stated = {"energy": ("energy-unit", "hartree"), "forces": ("force-unit", "hartree/bohr")}
    for setting in ({"energy_unit": "eV"}, {"force_unit": "eV/Ang"}):
        ((name, value),) = setting.items()
        with pytest.raises(DataError, match=rf"set#0 states .*-unit=.*source\.{name}={value}"):
            KeyedSource(**setting)._structure(record(stated=stated))


def test_energies_in_another_unit_do_not_say_that_of_forces_or_stress():
    stated = {"energy": ("energy-unit", "hartree")}
    with pytest.raises(ValueError, match=r"no unit of forces is stated: say source\.force_unit"):
        KeyedSource()._structure(record(stated=stated))
    assert structure(record({"header": {"energy": -2.0}}, stated=stated)).energy == -2.0 * u.Hartree
    with pytest.raises(ValueError, match=r"no unit of stress is stated: say source\.stress_unit"):
        KeyedSource(energy_unit="Hartree")._structure(record(stress=STRESS))


def test_unit_of_forces_is_that_of_energy_over_that_of_length_where_both_are_said():
    hartree, bohr = {"energy": ("energy-unit", "hartree")}, {"length": ("length-unit", "bohr")}
    for entry, settings in (
        (record(), {"energy_unit": "Hartree", "length_unit": "Bohr"}),
        (record(stated=bohr), {"energy_unit": "Hartree"}),
        (record(stated=hartree), {"length_unit": "Bohr"}),
        (record(stated=hartree | bohr), {}),
    ):
        np.testing.assert_allclose(structure(entry, **settings).forces, FORCES * (u.Hartree / u.Bohr), rtol=1e-15)
    for entry, settings in ((record(), {"length_unit": "Bohr"}), (record(stated=bohr), {})):
        with pytest.raises(ValueError, match=r"lengths are not in angstrom.*source\.force_unit"):
            KeyedSource(**settings)._structure(entry)


def test_layout_that_does_not_say_the_unit_of_stress_is_refused_whatever_the_energy():
    layout = {"energy": "eV", "stress": ""}
    for settings in ({}, {"energy_unit": "eV"}):
        with pytest.raises(ValueError, match=r"no unit of stress is stated: say source\.stress_unit"):
            KeyedSource(**settings)._structure(record(stress=STRESS, layout=layout))
    assert structure(record(stress=STRESS, layout=layout), stress_unit="GPa").stress[0, 0] == u.GPa


def test_sign_of_stress_is_the_settings_where_the_file_states_its_unit():
    entry = record(stress=STRESS, stated={"stress": ("stress-unit", "kbar")})
    np.testing.assert_allclose(structure(entry, stress_unit="-kbar").stress, -structure(entry).stress)
    with pytest.raises(DataError, match=r"stress-unit=kbar"):
        KeyedSource(stress_unit="GPa")._structure(entry)


def test_unit_of_stress_makes_what_the_key_names_a_stress():
    entry = record(my_virial=STRESS)
    found = structure(entry, stress_key="my_virial", stress_unit="eV/Ang^3")
    np.testing.assert_array_equal(found.stress, STRESS)
    np.testing.assert_allclose(structure(entry, stress_key="my_virial").stress, -STRESS / VOLUME)


def test_virial_of_a_file_in_hartree_is_in_hartree():
    wanted = -STRESS * u.Hartree / VOLUME
    for entry, settings in (
        (record({"header": {"energy": -2.0, "virial": STRESS}}, stated={"energy": ("energy-unit", "Ha")}), {}),
        (record({"header": {"energy": -2.0, "virial": STRESS}}, layout={"energy": "Hartree"}), {}),
        (record(virial=STRESS), {"energy_unit": "Hartree"}),
    ):
        np.testing.assert_allclose(structure(entry, **settings).stress, wanted, rtol=1e-14)


def test_stress_of_nan_hides_no_virial():
    found = structure(record(stress=np.full((3, 3), np.nan), virial=-VOLUME * STRESS))
    np.testing.assert_allclose(found.stress, STRESS)


def test_lengths_in_bohr():
    entry = record(stated={"length": ("length-unit", "Bohr")}, virial=-STRESS)
    found = structure(entry, force_unit="eV/Ang")
    np.testing.assert_array_equal(found.positions[1], np.array([1.5, 1.25, 1.0]) * u.Bohr)
    np.testing.assert_allclose(found.cell, np.diag([4.0, 5.0, 6.0]) * u.Bohr)
    np.testing.assert_allclose(found.stress, STRESS / (VOLUME * u.Bohr**3))
    assert structure(record(), length_unit="Bohr", energy_unit="eV").positions[1, 0] == 1.5 * u.Bohr


@pytest.mark.parametrize("unit", ["energy_unit", "force_unit", "stress_unit", "length_unit"])
def test_unit_that_is_not_known_is_refused_with_those_that_are(unit):
    with pytest.raises(ConfigError, match=rf"source\.{unit}=furlong must be empty or one of \w"):
        KeyedSource(**{unit: "furlong"})


def test_unknown_unit_of_the_file_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="'furlong'"):
        KeyedSource()._structure(record(stated={"energy": ("energy-unit", "furlong")}))
