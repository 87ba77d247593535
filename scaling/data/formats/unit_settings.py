"""Which unit a value of a file is in: that of the settings, else of the file, else of its layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scaling.data.formats import units
from scaling.data.formats.record import Record
from scaling.data.source import FileSource
from scaling.errors import ConfigError, DataError

_RELATIVE = 1e-4  # that two statements of one unit may differ by
_READERS: dict[str, tuple[Callable[[str], float], Mapping[str, float]]] = {
    "energy": (units.energy_unit_ev, units.ENERGY_UNITS_EV),
    "forces": (units.force_unit_ev_per_ang, units.FORCE_UNITS_EV_PER_ANG),
    "stress": (units.stress_unit_ev_per_ang3, units.STRESS_UNITS_EV_PER_ANG3),
    "virial": (units.energy_unit_ev, units.ENERGY_UNITS_EV),
    "length": (units.length_unit_ang, units.LENGTH_UNITS_ANG),
}


@dataclass(frozen=True)
class UnitSettings(FileSource):
    """Units by settings.

    energy_unit: eV, meV, Hartree, Rydberg, kcal/mol, kJ/mol or cm^-1; "": what the file states, else eV.
    force_unit: one of these over Ang, Bohr or nm; "": what the file states, else the unit of energy over that of length
        where both are set or stated, else energy_unit over Ang.
    stress_unit: eV/Ang^3, Hartree/Bohr^3, kcal/mol/Ang^3, GPa, kbar or bar, with a minus where pressure is positive
        (VASP: -kbar); "": what the file states, else eV/Ang^3. length_unit: Ang, Bohr or nm; "": likewise, else Ang.
    """

    energy_unit: str = ""
    force_unit: str = ""
    stress_unit: str = ""
    length_unit: str = ""

    def __post_init__(self) -> None:
        for name, quantity in (("energy", "energy"), ("force", "forces"), ("stress", "stress"), ("length", "length")):
            allowed = _READERS[quantity][1]
            value = getattr(self, f"{name}_unit")
            if value and value not in allowed:
                raise ConfigError(f"source.{name}_unit={value} must be empty or one of {', '.join(allowed)}")

    def _factor(self, record: Record, quantity: str, name: str = "") -> float:
        """What a value of the file is multiplied with.

        Raises:
            DataError: if a setting contradicts the file; of stress by more than the sign, which files do not state.
            ValueError: if the unit that the file states is not understood, or does not say that of the forces.
        """
        read, allowed = _READERS[quantity]
        setting = {"forces": "force_unit", "virial": "energy_unit"}.get(quantity, f"{quantity}_unit")
        given = getattr(self, setting)
        key, text = record.stated.get(name) or record.stated.get(quantity) or ("", "")
        stated = read(text) if text else None
        if given:
            if stated is not None and abs(abs(stated) - abs(allowed[given])) > _RELATIVE * abs(stated):
                raise DataError(
                    f"{record.label} states {key}={text}, but source.{setting}={given}; leave out the setting, or "
                    f"correct the file"
                )
            return allowed[given]
        if stated is not None:
            return stated
        return self._unstated(record, quantity, setting)

    def _unstated(self, record: Record, quantity: str, setting: str) -> float:
        """The factor where neither the settings nor the file say it themselves."""
        read, _ = _READERS[quantity]
        layout = record.layout.get(quantity)
        if quantity == "length":
            return read(layout or "Ang")
        if quantity == "energy":
            return read(layout or "eV")
        energy = self._factor(record, "energy")
        if quantity == "virial":
            return energy
        length = self._factor(record, "length")
        if layout == "":
            raise ValueError(f"no unit of {quantity} is stated: say source.{setting}")
        if quantity == "forces" and self._is_said(record, "energy") and self._is_said(record, "length"):
            return energy / length
        if layout and not self.energy_unit:
            return read(layout)
        if quantity == "forces" and self.energy_unit and length == 1.0:
            return energy
        for what, factor, unit in (("energies", energy, "eV"), ("lengths", length, "angstrom")):
            if factor != 1.0:
                raise ValueError(f"{what} are not in {unit}, and no unit of {quantity} is stated: say source.{setting}")
        return 1.0

    def _is_said(self, record: Record, quantity: str) -> bool:
        """Whether the unit is set, or stated by the file."""
        return bool(getattr(self, f"{quantity}_unit")) or quantity in record.stated
