"""Terms of two axes: a power of a sum over N and D, and data that count less when they are repeated.

Legend of shapes: R replicates, p parameters of a term, M runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit

from analysis.arrays import FloatArray
from analysis.forms.terms import EXPONENT_BOUNDS, Logs, Parameter, Term

BALANCE_BOUNDS = (-15.0, 15.0)
LOG_REPEATS_BOUNDS = (-3.0, 8.0)


@dataclass(frozen=True)
class PowerOfSum(Term):
    """(A / N^alpha + B / D^beta)^gamma or, with `fixed_data_power`, [(N_c / N)^(aN / aD) + D_c / D]^aD.

    Searched by its size, the balance of the two summands (a log odds) and the exponents.
    """

    fixed_data_power: bool

    axes = ("N", "D")

    @property
    def coefficient(self) -> str:  # type: ignore[override]
        return "N_c" if self.fixed_data_power else "A"

    @property
    def text(self) -> str:
        if self.fixed_data_power:
            return "[(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D"
        return "(A / N^alpha + B / D^beta)^gamma"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        if self.fixed_data_power:
            return (
                Parameter("D_c", "shape", *BALANCE_BOUNDS),
                Parameter("alpha_N", "exponent", *EXPONENT_BOUNDS, ("N",)),
                Parameter("alpha_D", "exponent", 1e-3, EXPONENT_BOUNDS[1], ("D",)),
            )
        return (
            Parameter("B", "shape", *BALANCE_BOUNDS),
            Parameter("alpha", "exponent", *EXPONENT_BOUNDS, ("N",)),
            Parameter("beta", "exponent", *EXPONENT_BOUNDS, ("D",)),
            Parameter("gamma", "shape", 0.02, 20.0),
        )

    def _powers(self, own: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(R, 1) each: the powers of N and D inside, and that of the sum."""
        if self.fixed_data_power:
            outer = own[:, 2:3]
            return own[:, 1:2] / outer, np.ones_like(outer), outer
        return own[:, 1:2], own[:, 2:3], own[:, 3:4]

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        n, d, balance = logs["N"], logs["D"], own[:, :1]
        inner_n, inner_d, outer = self._powers(own)
        first, second = log_expit(balance) - inner_n * n, log_expit(-balance) - inner_d * d
        log_sum = np.logaddexp(first, second)
        share = np.exp(first - log_sum)
        by_balance = outer * (share - expit(balance))
        by_inner_n, by_inner_d = -outer * share * n, -outer * (1 - share) * d
        if self.fixed_data_power:
            by_outer = log_sum - by_inner_n * inner_n / outer
            return outer * log_sum, np.stack([by_balance, by_inner_n / outer, by_outer], 1)
        return outer * log_sum, np.stack([by_balance, by_inner_n, by_inner_d, log_sum], 1)

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        coarse, balances = np.geomspace(0.05, 2.0, 7), np.array([-4.0, -1.5, 0.0, 1.5, 4.0])
        outer = [] if self.fixed_data_power else [np.array([0.3, 1.0, 3.0])]
        return [balances, coarse, coarse, *outer]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        inner_n, inner_d, outer = (power[:, 0] for power in self._powers(own))
        size = (log_coefficient + np.log(scale)) / outer
        with np.errstate(over="ignore", divide="ignore"):
            log_n = size + log_expit(own[:, 0]) + inner_n * centre["N"]
            values = own.copy()
            values[:, 0] = np.exp(size + log_expit(-own[:, 0]) + inner_d * centre["D"])
            return np.exp(log_n / inner_n if self.fixed_data_power else log_n), values


@dataclass(frozen=True)
class EffectiveData(Term):
    """coefficient / D'^exponent, where each repetition of D different data counts less than the one before.

    D' = D (1 + R (1 - exp(-(epochs - 1) / R))); for less than one epoch D' = D * epochs.
    """

    coefficient: str
    exponent: str
    repeats: str

    axes = ("D", "epochs")
    uncentred = ("epochs",)

    @property
    def text(self) -> str:
        name = self.repeats
        return f"{self.coefficient} / [D (1 + {name} - {name} exp((1 - epochs) / {name}))]^{self.exponent}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter(self.exponent, "exponent", *EXPONENT_BOUNDS, ("D",)),
            Parameter(self.repeats, "shape", *LOG_REPEATS_BOUNDS),
        )

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        exponent, repeats = own[:, :1], np.exp(own[:, 1:])
        again = np.maximum(np.expm1(logs["epochs"]), 0.0)
        decay = np.exp(-again / repeats)
        times = 1.0 + repeats * (1.0 - decay)
        effective = logs["D"] + np.log(times) + np.minimum(logs["epochs"], 0.0)
        by_repeats = -exponent * (repeats * (1.0 - decay) - again * decay) / times
        return -exponent * effective, np.stack([-effective, by_repeats], 1)

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        return [exponents, np.log([1.0, 5.0, 15.0, 100.0])]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        coefficient = scale * np.exp(log_coefficient + own[:, 0] * centre["D"])
        return coefficient, np.column_stack([own[:, 0], np.exp(own[:, 1])])
