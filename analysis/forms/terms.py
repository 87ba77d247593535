"""What a form is made of: its parameters, and terms that each are a coefficient times a function of the axes.

Legend of shapes: R replicates, p parameters of a term, M runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analysis.arrays import FloatArray

Logs = Mapping[str, FloatArray]

EXPONENT_BOUNDS = (0.0, 5.0)
LOG_COEFFICIENT_BOUNDS = (-30.0, 30.0)
CUSTOMARY = {
    "N": {"coefficient": "A", "exponent": "alpha"},
    "D": {"coefficient": "B", "exponent": "beta"},
    "C": {"coefficient": "K", "exponent": "kappa"},
}
SMALLEST_START = 1e-4  # a coefficient that the projection sets to zero starts here, small enough not to be seen


@dataclass(frozen=True)
class Parameter:
    """One parameter of a form, and the box it is searched in (centred, scaled units; coefficients as logarithms)."""

    name: str
    kind: Literal["coefficient", "floor", "exponent", "shape"]
    lower: float
    upper: float
    axes: tuple[str, ...] = ()


class Term(ABC):
    """coefficient * g(axes; parameters), with g positive.

    Attributes:
        coefficient: its name.
        axes: those it reads; uncentred: those of them whose logarithms it wants as they are.
    """

    coefficient: str
    axes: tuple[str, ...]
    uncentred: tuple[str, ...] = ()

    @property
    @abstractmethod
    def text(self) -> str:
        """The term as a reader would write it."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """Those besides the coefficient."""

    @abstractmethod
    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        """log g (R, M) and its derivatives (R, p, M) for own parameters (R, p) at the logarithms (M,) of the axes."""

    @abstractmethod
    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        """Start values of each own parameter; `exponents` are those that exponents are to take."""

    @abstractmethod
    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        """The coefficient (R,) and own parameters (R, p) in the user's units."""
