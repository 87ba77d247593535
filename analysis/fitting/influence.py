"""Which runs the law leans on: how far it moves without one, and without a few of them together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.fitting.descent import minimize
from analysis.fitting.law import Law
from analysis.tables import RunTable

MOST_RUNS = 1000
"""More refits on more runs take seconds; beyond it no single run carries a law anyway."""


def too_many_runs(table: RunTable) -> bool:
    """Whether leaving out one run after the other would take too long."""
    return len(table) > MOST_RUNS


@dataclass(frozen=True)
class Influence:
    """What leaving out one run does.

    Attributes:
        shift: for each parameter by how much its value changes, in the user's units.
        dfbetas: the shift of each parameter in its standard errors (the bootstrap's, or by the curvature where there is
            none), coefficients as logarithms.
        cook: Cook's distance: the rise of the objective at the refitted law, over that of one standard error in each
            parameter; above 1 the law has left its 50 % region or so.
    """

    run: str
    shift: dict[str, float]
    dfbetas: dict[str, float]
    cook: float


@dataclass(frozen=True)
class Lever:
    """The runs that together move one parameter most."""

    parameter: str
    runs: tuple[str, ...]
    value: float
    without: float
    standard_errors: float

    @property
    def sentence(self) -> str:
        """What would be without them."""
        names = ", ".join(self.runs)
        return (
            f"without {len(self.runs)} runs ({names}) {self.parameter} would be {self.without:.3g} instead of "
            f"{self.value:.3g}, {abs(self.standard_errors):.1f} of its standard errors away"
        )


def leave_one_out(law: Law) -> dict[str, FloatArray]:
    """For each parameter the change (M,) of its value when the run is left out and the law refitted."""
    values = _public(law, _without(law, 1.0 - np.eye(len(law.table))))
    return {estimate.name: values[:, i] - estimate.value for i, estimate in enumerate(law.params)}


def dfbetas(law: Law) -> dict[str, FloatArray]:
    """For each parameter the change (M,) when the run is left out, in its standard errors, coefficients as logarithms.

    Source: Belsley, Kuh and Welsch 1980, Regression Diagnostics, ch. 2 (DFBETAS, there with the other sign).
    """
    moved = (_without(law, 1.0 - np.eye(len(law.table))) - law.optimum.theta) / _standard_errors(law)
    return {estimate.name: moved[:, k] for k, estimate in enumerate(law.params)}


def noteworthy(num_runs: int) -> float:
    """Size of DFBETAS from which a run deserves a look: 2 / sqrt(n). Source: Belsley, Kuh and Welsch 1980, ch. 2."""
    return 2.0 / float(np.sqrt(num_runs))


def influences(law: Law) -> tuple[Influence, ...]:
    """Every run's influence, largest Cook's distance first.

    Source: Cook 1977, doi:10.1080/00401706.1977.10489493 (the distance); Belsley, Kuh and Welsch 1980 (DFBETAS); the
    distance by the objective's rise is the likelihood displacement of Cook 1986, J. R. Stat. Soc. B 48, 133.
    """
    theta = _without(law, 1.0 - np.eye(len(law.table)))
    values, noise = _public(law, theta), law.uncertainty.noise
    moved = (theta - law.optimum.theta) / _standard_errors(law)
    cook = np.maximum(law.uncertainty.profile.rise_at(theta), 0.0) / (len(law.form.parameters) * noise.objective_per_f)
    names = [estimate.name for estimate in law.params]
    return tuple(
        Influence(
            law.table.run[i],
            {name: float(values[i, k] - law.params[k].value) for k, name in enumerate(names)},
            {name: float(moved[i, k]) for k, name in enumerate(names)},
            float(cook[i]),
        )
        for i in np.argsort(-cook, kind="stable")
    )


def lever(law: Law, parameter: str, count: int = 5) -> Lever:
    """The `count` runs that together move the parameter farthest; found among those that alone move it most one way.

    Raises:
        ConfigError: if the law has no such parameter.
    """
    return levers(law, [parameter], count)[0]


def levers(law: Law, parameters: Sequence[str], count: int = 5) -> list[Lever]:
    """`lever` of each of the parameters."""
    columns, num_runs = [law.params.index(law[name]) for name in parameters], len(law.table)
    alone = _without(law, 1.0 - np.eye(num_runs)) - law.optimum.theta
    return [_lever(law, column, alone[:, column], count) for column in columns]


def _lever(law: Law, column: int, alone: FloatArray, count: int) -> Lever:
    """The lever of one parameter, of which `alone` (M,) is the change without each run."""
    start = law.optimum.theta[column]
    sets = [np.argsort(sign * alone, kind="stable")[:count] for sign in (1, -1)]
    counts = np.ones((2, len(law.table)))
    for row, chosen in enumerate(sets):
        counts[row, chosen] = 0.0
    theta = _without(law, counts)
    best = int(np.abs(theta[:, column] - start).argmax())
    return Lever(
        law.params[column].name,
        tuple(law.table.run[i] for i in sets[best]),
        law.params[column].value,
        float(_public(law, theta)[best, column]),
        float((theta[best, column] - start) / _standard_errors(law)[column]),
    )


def _standard_errors(law: Law) -> FloatArray:
    """(P,) of theta."""
    if law.samples is None:
        errors = law.uncertainty.profile.standard_errors
    else:
        errors = np.asarray(law.samples.theta.std(0, ddof=1))
    # A parameter that lies on its bound in every refit has no error, and no run moves it: 0 standard errors, not 0 / 0.
    return np.where(errors > 0, errors, np.inf)


def _without(law: Law, counts: FloatArray) -> FloatArray:
    """theta (R, P) refitted with these counts of the runs."""
    optimum = law.optimum
    start = np.repeat(optimum.theta[None], len(counts), axis=0)
    return minimize(optimum.problem, optimum.objective, counts, start).theta


def _public(law: Law, theta: FloatArray) -> FloatArray:
    return law.form.public(theta, law.optimum.centre, law.optimum.scale)
