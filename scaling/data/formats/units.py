"""Units as people write them into files, and what they are in eV and angstrom (ASE's values, CODATA 2014)."""

import re
from collections.abc import Mapping

import ase.units

ENERGY_UNITS_EV: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": ase.units.Hartree,
    "Rydberg": ase.units.Rydberg,
    "kcal/mol": ase.units.kcal / ase.units.mol,
    "kJ/mol": ase.units.kJ / ase.units.mol,
    "cm^-1": ase.units.invcm,
}
LENGTH_UNITS_ANG: dict[str, float] = {"Ang": 1.0, "Bohr": ase.units.Bohr, "nm": 10.0}
FORCE_UNITS_EV_PER_ANG: dict[str, float] = {
    f"{energy}/{length}": energy_ev / length_ang
    for energy, energy_ev in ENERGY_UNITS_EV.items()
    for length, length_ang in LENGTH_UNITS_ANG.items()
}
_PRESSURES = {
    "eV/Ang^3": 1.0,
    "Hartree/Bohr^3": ase.units.Hartree / ase.units.Bohr**3,
    "kcal/mol/Ang^3": ENERGY_UNITS_EV["kcal/mol"],
    "GPa": ase.units.GPa,
    "kbar": 1e3 * ase.units.bar,
    "bar": ase.units.bar,
}
#: With a minus where pressure is positive, as VASP prints it (-kbar); plain where tension is.
STRESS_UNITS_EV_PER_ANG3: dict[str, float] = _PRESSURES | {f"-{name}": -value for name, value in _PRESSURES.items()}

#: Spellings in lower case, without blanks, brackets and powers (`mol^-1` is `/mol`), of the names above.
_ENERGY_SPELLINGS = {
    "eV": "ev electronvolt electronvolts",
    "meV": "mev millielectronvolt",
    "Hartree": "hartree hartrees ha eh e_h au a.u. atomic",
    "Rydberg": "rydberg rydbergs ry",
    "kcal/mol": "kcal/mol kcal/mole kcal_mol kcalmol kcalpermol",
    "kJ/mol": "kj/mol kj/mole kj_mol kjmol kjpermol",
    "cm^-1": "cm^-1 cm-1 /cm 1/cm invcm wavenumber wavenumbers",
}
_LENGTH_SPELLINGS = {
    "Ang": "ang ang. angstrom angstroms a å ångström ångstrom",
    "Bohr": "bohr bohrs a0 a_0 au a.u. atomic",
    "nm": "nm nanometer nanometre",
}
_STRESS_SPELLINGS = {"GPa": "gpa", "kbar": "kbar kb kilobar", "bar": "bar"}

_INVERSE = re.compile(r"[\s*·.]*\b([a-zåö_]+0?)\^?(?:-|\*\*-)([13])\b")  # Å^-1, mol-1
_Spelt = dict[str, float]


def _spelt(spellings: dict[str, str], values: dict[str, float]) -> _Spelt:
    return {word: values[name] for name, words in spellings.items() for word in words.split()}


_ENERGIES = _spelt(_ENERGY_SPELLINGS, ENERGY_UNITS_EV)
_LENGTHS = _spelt(_LENGTH_SPELLINGS, LENGTH_UNITS_ANG)
_STRESSES = _spelt(_STRESS_SPELLINGS, _PRESSURES)


def _plain(text: str) -> str:
    """`kcal mol^-1 Å^-1` and `kcal/(mol*Ang)` as `kcal/mol/ang`."""
    word = re.sub(r"\s+", " ", re.sub(r"[{}]", "", text).strip().lower().replace("³", "^3"))
    if word.replace(" ", "") in _ENERGY_SPELLINGS["cm^-1"].split():
        return word.replace(" ", "")
    word = _INVERSE.sub(r"/\1^\2", word)
    word = re.sub(r"/\(([^()]*)\)", lambda match: "/" + re.sub(r"[\s*·]+", "/", match[1]), word)
    return re.sub(r"[\s()]+", "", word).replace("**", "^").replace("^1", "")


def energy_unit_ev(text: str) -> float:
    """Raises ValueError if it is not understood; so do the others."""
    return _known(_ENERGIES, _plain(text), text, "energy", ENERGY_UNITS_EV)


def length_unit_ang(text: str) -> float:
    return _known(_LENGTHS, _plain(text), text, "length", LENGTH_UNITS_ANG)


def force_unit_ev_per_ang(text: str) -> float:
    """A unit of energy over one of length, or `au`."""
    word = _plain(text)
    if word in ("au", "a.u.", "atomic"):
        return ase.units.Hartree / ase.units.Bohr
    energy, _, length = word.rpartition("/")
    if energy not in _ENERGIES or length not in _LENGTHS:
        raise ValueError(f"{text!r} is no unit of force that is known; write it as Hartree/Bohr or eV/Ang")
    return _ENERGIES[energy] / _LENGTHS[length]


def stress_unit_ev_per_ang3(text: str) -> float:
    """A pressure, or a unit of energy over the cube of one of length; negative with a minus before it."""
    word = _plain(text.strip().removeprefix("-"))
    sign = -1.0 if text.strip().startswith("-") else 1.0
    if word in _STRESSES:
        return sign * _STRESSES[word]
    energy, _, volume = word.rpartition("/")
    length = volume.removesuffix("3").removesuffix("^")
    if energy not in _ENERGIES or length not in _LENGTHS or not volume.endswith("3"):
        raise ValueError(f"{text!r} is no unit of stress that is known; write it as eV/Ang^3, GPa or kbar")
    return sign * _ENERGIES[energy] / _LENGTHS[length] ** 3


def _known(table: _Spelt, word: str, text: str, what: str, names: dict[str, float]) -> float:
    if word not in table:
        raise ValueError(f"{text!r} is no unit of {what} that is known; write {', '.join(names)}")
    return table[word]


#: What is stated at once by the name of a system of units.
SYSTEMS: dict[str, dict[str, str]] = {
    "metal": {"energy": "eV", "forces": "eV/Ang", "length": "Ang"},
    "ase": {"energy": "eV", "forces": "eV/Ang", "length": "Ang", "stress": "eV/Ang^3"},
    "real": {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "length": "Ang"},
    "atomic": {"energy": "Hartree", "forces": "Hartree/Bohr", "length": "Bohr"},
    "electron": {"energy": "Hartree", "forces": "Hartree/Bohr", "length": "Bohr"},
}
#: Quantities by what a name contains.
_QUANTITIES = (
    ("forces", r"forc|grad"),
    ("virial", r"virial"),
    ("stress", r"stress|pressure"),
    ("length", r"length|dist|pos|coord|cell|lattice|^r$|geometry"),
    ("energy", r"energ|^e$"),
)
#: Names that mean the quantity itself, not one of several of its kind (U0, atomisation energy).
_WHOLE_NAMES = {"energy", "force", "forces", "stress", "virial", "length", "distance", "position", "positions", "cell"}
_UNIT_KEY = re.compile(r"_?(.*?)[-_ ]?units?", re.IGNORECASE)
_UNIT_FIRST = re.compile(
    r"_?units?[-_ ]?(?:of[-_ ])?(energy|energies|forces?|stress|virial|lengths?|distances?|positions?)", re.IGNORECASE
)
_UNIT_WORD = re.compile(r"(?<![a-z])units?(?![a-z])", re.IGNORECASE)
_LABEL_WORD = re.compile(r"energ|forc|grad|stress|virial|length|distance|position|coordinate", re.IGNORECASE)


def stated_units(entries: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Of a header's entries, those that name a unit: the quantity, and the entry's key and text.

    Entries are `energy-unit`, `force_units`, `unit_energy`, `_distance_unit` and the like, and `units` alone, which
    names a system of units (metal, real, atomic) or that of energies. In metadata, `{"units": {"energy": "Hartree"}}`
    and `{"energy": {"unit": "Hartree"}}` say it by the label's name, too. Units of quantities that are not read
    (dipoles, times) are passed over.

    Raises:
        ValueError: if `units` alone is neither, or a key that speaks of the unit of a label is not understood.
    """
    found: dict[str, tuple[str, str]] = {}
    for key, value in entries.items():
        if isinstance(value, Mapping):
            found |= _nested(key, value)
            continue
        name = _named(key)
        if name is None:
            if isinstance(value, str) and _UNIT_WORD.search(key.replace("_", " ")) and _LABEL_WORD.search(key):
                raise ValueError(
                    f"{key}={value} is not understood; write energy_unit, force_unit, stress_unit, length_unit"
                )
            continue
        quantity = _quantity(name)
        if not isinstance(value, str):
            if quantity and isinstance(value, int | float) and not isinstance(value, bool):
                raise ValueError(f"{key}={value} is not understood; write the unit's name")
        elif value.strip() and not name:
            system = {"au": "atomic", "a.u.": "atomic"}.get(value.strip().lower(), value.strip().lower())
            if system not in SYSTEMS:
                energy_unit_ev(value)
            words = SYSTEMS.get(system, {"energy": value})
            found |= {quantity: (key, word) for quantity, word in words.items() if quantity not in found}
        elif value.strip() and quantity:
            found[quantity] = (key, value)
    return found


def _named(key: str) -> str | None:
    """Of what a key states the unit: "" of everything; None if it states none."""
    match = _UNIT_FIRST.fullmatch(key) or _UNIT_KEY.fullmatch(key)
    return match[1] if match else None


def _quantity(name: str) -> str:
    return next((what for what, pattern in _QUANTITIES if re.search(pattern, name, re.IGNORECASE)), "")


def _nested(key: str, entries: Mapping[object, object]) -> dict[str, tuple[str, str]]:
    """Units in a mapping: of the labels it names, where its key speaks of units; else of what its key names."""
    found: dict[str, tuple[str, str]] = {}
    for inner, text in entries.items():
        if not isinstance(text, str) or text.strip() in ("", "1", "1.0"):  # these are SchNetPack's for none
            continue
        statement = (f"{key}.{inner}", text)
        if _UNIT_WORD.search(key.replace("_", " ")):
            name = str(inner)
        elif str(inner).lower() in ("unit", "units"):
            name = key
        else:
            continue
        found[name] = statement
        if name.lower() in _WHOLE_NAMES:
            found[_quantity(name)] = statement
    return found
