"""What unit an energy probably is in that is too large to be in the one it was read as."""

import numpy as np

from scaling.data.formats import units
from scaling.structure import FloatArray, IntArray

#: By what an energy that was read as the second unit is to be multiplied if it is in the first.
MISTAKES = {
    **{f"{name} and not eV": units.ENERGY_UNITS_EV[name] for name in ("kcal/mol", "kJ/mol", "meV", "cm^-1")},
    **{
        f"{name} and not Hartree": units.ENERGY_UNITS_EV[name] / units.ENERGY_UNITS_EV["Hartree"]
        for name in ("eV", "kcal/mol")
    },
}
#: All-electron energies agree with the formula this well, and with no other of the units.
AGREEMENT = 0.1


def all_electron_ev(numbers: IntArray) -> FloatArray:
    """(N,) energies of neutral atoms with all their electrons, within a tenth for all of the periodic table.

    E = -0.768745 Z^(7/3) + Z^2 / 2 - 0.269900 Z^(5/3) Hartree.
    Source: Schwinger, Phys. Rev. A 24, 2353 (1981), the statistical atom with Scott's and the exchange correction.
    """
    z = np.asarray(numbers, dtype=np.float64)
    return (-0.768745 * z ** (7 / 3) + z**2 / 2 - 0.2699 * z ** (5 / 3)) * units.ENERGY_UNITS_EV["Hartree"]


def plausible_unit(energy_ev: float, numbers: IntArray, max_ev_per_atom: float) -> str:
    """What to try with a total energy that is beyond the bound, as words for a message."""
    expected = float(all_electron_ev(numbers).sum())

    def off(factor: float) -> float:
        return abs(energy_ev * factor / expected - 1)

    per_atom = energy_ev / len(numbers)
    if off(1.0) < AGREEMENT:
        return f"about that of all electrons: raise bounds.max_energy_ev_per_atom={max_ev_per_atom:g}"
    nearest = min(MISTAKES, key=lambda name: off(MISTAKES[name]))
    if off(MISTAKES[nearest]) < AGREEMENT:
        return f"if it is in {nearest}, {per_atom * MISTAKES[nearest]:.6g} eV/atom, about that of all electrons"
    fitting = [name for name, factor in MISTAKES.items() if abs(per_atom * factor) <= max_ev_per_atom]
    if not fitting:
        return "no usual unit makes it plausible"
    return f"within bounds if it is in {' or '.join(fitting)}"
