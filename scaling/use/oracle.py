"""What labelled a data set, where it can be asked again: the judge of structures that a network has relaxed."""

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from scaling.data import Manifest
from scaling.data.sources import xtb
from scaling.data.sources.emt import FastNeighborsEMT
from scaling.structure import FloatArray
from scaling.use.relaxation import ForceField, by_calculator


def oracle_of(manifest: Manifest) -> ForceField | None:
    """The one that labelled these data; None where none is at hand, as for data that were read from files.

    Raises:
        ConfigError: if what it needs is not installed.
    """
    make = ORACLES.get(manifest.source.name)
    return make() if make else None


def _emt() -> ForceField:
    label = by_calculator(FastNeighborsEMT())

    def force_field(systems: Sequence[Atoms]) -> tuple[FloatArray, FloatArray]:
        with np.errstate(all="ignore"):  # of atoms in one another's core; what is not finite is dealt with
            return label(systems)

    return force_field


def _xtb() -> ForceField:
    xtb.Xtb().files()  # a missing library is an error before the work begins

    def force_field(systems: Sequence[Atoms]) -> tuple[FloatArray, FloatArray]:
        labels = [_or_nan(xtb.label(atoms), len(atoms)) for atoms in systems]
        return np.array([energy for energy, _ in labels]), np.concatenate([forces for _, forces in labels])

    return force_field


def _or_nan(labelled: tuple[float, FloatArray] | str, num_atoms: int) -> tuple[float, FloatArray]:
    return (np.nan, np.full((num_atoms, 3), np.nan)) if isinstance(labelled, str) else labelled


#: By the name of the source.
ORACLES: dict[str, Callable[[], ForceField]] = {"emt": _emt, "xtb": _xtb}
