"""A record whose labels have names, and the search for a name in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.structure import FloatArray, IntArray

Sections = Mapping[str, Mapping[str, Any]]
#: What a name of three numbers an atom contains that is no force.
_NO_FORCE = re.compile(r"pos|mom|velo|spin|disp|coord|shift|dipole", re.IGNORECASE)
#: What a name contains that looks like a label's.
_LIKE = {"energy": r"energ|^e$|toten|^u0$", "forces": r"forc|grad", "stress": r"stress|virial"}
#: Words, one of which is in a name that looks like that of a charge or multiplicity.
_STATE_WORDS = {"charge": {"charge"}, "spin": {"spin", "multiplicity", "mult"}}
_MOST_KEYS = 12
#: What two statements of one label may differ by: a billionth, and a few units of the last digit printed as a rule.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-5


@dataclass(frozen=True)
class Record:
    """One record in the units of its file.

    numbers (N,), positions (N, 3), cell (3, 3) rows, pbc (3,).
    sections: where labels may be, by name, in the order in which they are searched. arrays: names of the sections
        that hold values of each atom, where of the labels forces alone are looked for.
    group: where the settings do not name a key.
    stated: units the file states, by quantity or name of the label: the key it is stated by, and the text.
    layout: units that the format has as published, by quantity; where it names none, eV and angstrom; "": unknown.
    notes: what is worth a word, as `Structure` has them.
    """

    label: str
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: np.ndarray[Any, np.dtype[np.bool_]]
    sections: Sections
    arrays: tuple[str, ...] = ()
    group: str = ""
    stated: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    layout: Mapping[str, str] = field(default_factory=dict)
    holdout: str = ""
    notes: tuple[str, ...] = ()

    def places(self, what: str) -> Sections:
        """Where a label is looked for."""
        of_atoms = what == "forces"
        return {name: section for name, section in self.sections.items() if of_atoms or name not in self.arrays}


def usual(sections: Sections, pattern: str, what: str) -> tuple[str, Any] | None:
    """Name and value of what goes by a usual name, in the first section that has it.

    Raises:
        ValueError: if there are several, in one section or in two, that disagree.
    """
    found = [
        (where, name, value)
        for where, section in sections.items()
        for name, value in section.items()
        if re.fullmatch(pattern, name, re.IGNORECASE) and _is_there(what, value)
    ]
    if not found:
        return None
    where, name, value = found[0]
    for other_where, other, other_value in found[1:]:
        if not _agree(what, value, other_value):
            words = (name, other) if where == other_where else (f"{where}: {name}", f"{other_where}: {other}")
            raise ValueError(f"{' and '.join(words)} disagree; choose with source.{what}_key")
    return name, value


def _is_there(what: str, value: Any) -> bool:
    """Not empty, of a stress not NaN throughout, of a charge or multiplicity that of the whole and not of the atoms."""
    if value is None:
        return False
    if what in _STATE_WORDS:
        return np.size(value) == 1
    return what != "stress" or not (is_numeric(value) and np.isnan(np.asarray(value, dtype=np.float64)).all())


def _agree(what: str, value: Any, other: Any) -> bool:
    if not (is_numeric(value) and is_numeric(other)):
        return np.array_equal(value, other)
    one, two = (np.asarray(entry, dtype=np.float64) for entry in (value, other))
    if what == "stress" and {one.size, two.size} <= {6, 9}:
        one, two = full_matrix("stress", one), full_matrix("stress", two)
    return one.size == two.size and np.allclose(one.ravel(), two.ravel(), _RELATIVE, _ABSOLUTE, equal_nan=True)


def alike(record: Record, what: str) -> list[str]:
    """Names that look like the label's, of values that have its shape."""
    num_atoms = len(record.numbers)
    sizes = {"energy": (1,), "forces": (3 * num_atoms,), "stress": (6, 9)}[what]
    found: list[str] = []
    for section in record.places(what).values():
        for name, value in section.items():
            if re.search(_LIKE[what], name, re.IGNORECASE) and is_numeric(value) and np.size(value) in sizes:
                is_vector = what != "forces" or np.shape(value) == (num_atoms, 3)
                found += [name] if is_vector and np.ndim(value) <= 2 and _is_there(what, value) else []
    return found[:_MOST_KEYS]


def vectors(record: Record) -> list[str]:
    """Names of what has three numbers an atom and is neither position nor motion nor magnetic moment."""
    shape = (len(record.numbers), 3)
    return [
        name
        for section in record.places("forces").values()
        for name, value in section.items()
        if np.shape(value) == shape and is_numeric(value) and not _NO_FORCE.search(name)
    ][:_MOST_KEYS]


def state_alike(record: Record, what: str) -> list[str]:
    """Names in which `charge`, or `spin` or `multiplicity`, is a word, of single numbers."""
    found: list[str] = []
    for section in record.places(what).values():
        for name, value in section.items():
            if _STATE_WORDS[what] & _words(name) and np.size(value) == 1 and is_numeric(number_of(value)):
                found.append(name)
    return found[:_MOST_KEYS]


@lru_cache(maxsize=1024)
def _words(name: str) -> frozenset[str]:
    """The words of a name, in lower case: net_charge and netCharge have two."""
    return frozenset(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def number_of(value: Any) -> Any:
    """A text that is a number as that number; anything else as it is."""
    if isinstance(value, str | bytes):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def is_numeric(value: Any) -> bool:
    """Whether it is a number or an array of numbers; truth values are none."""
    try:
        return np.asarray(value).dtype.kind in "iuf"
    except ValueError:  # of ragged lists
        return False


def listed(sections: Sections) -> str:
    """The names in each section."""
    parts = []
    for where, section in sections.items():
        names: Sequence[str] = sorted(map(str, section))
        more = f" and {len(names) - _MOST_KEYS} more" if len(names) > _MOST_KEYS else ""
        parts.append(f"{where}: {', '.join(n[:40] for n in names[:_MOST_KEYS]) or 'nothing'}{more}")
    return "; ".join(parts)


def full_matrix(name: str, value: Any) -> FloatArray:
    """(3, 3) from nine numbers or from six in Voigt's order xx, yy, zz, yz, xz, xy.

    Raises:
        ValueError: if they are neither.
    """
    array = floats(name, value)
    if array.size == 9:
        return array.reshape(3, 3)
    if array.shape != (6,):
        raise ValueError(f"{name} has shape {array.shape}, not 6 or 9 numbers")
    return array[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def floats(name: str, value: Any) -> FloatArray:
    """Raise ValueError unless it is an array of real numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    return array.astype(np.float64)
