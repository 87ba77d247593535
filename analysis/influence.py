"""Which single runs the law leans on: how far it moves when one is left out."""

import numpy as np

from analysis.fit import Law
from analysis.minimize import minimize
from analysis.tables import RunTable
from analysis.terms import FloatArray

MOST_RUNS = 1000
"""More refits on more runs take seconds; beyond it no single run carries a law anyway."""


def too_many_runs(table: RunTable) -> bool:
    """Whether leaving out one run after the other would take too long."""
    return len(table) > MOST_RUNS


def leave_one_out(law: Law) -> dict[str, FloatArray]:
    """For each parameter the change (M,) of its value when the run is left out and the law refitted."""
    optimum = law.optimum
    counts = 1.0 - np.eye(len(law.table))
    start = np.repeat(optimum.theta[None], len(law.table), axis=0)
    theta = minimize(optimum.problem, optimum.objective, counts, start).theta
    values = law.form.public(theta, optimum.centre, optimum.scale)
    return {estimate.name: values[:, i] - estimate.value for i, estimate in enumerate(law.params)}


def dfbetas(law: Law, shifts: dict[str, FloatArray] | None = None) -> dict[str, FloatArray]:
    """For each parameter by how many standard errors (M,) each run moves it: with the run less without it.

    The standard error is the bootstrap's, which holds for a robust objective too; a parameter without one is left out.
    Source: Belsley, Kuh and Welsch 1980, Regression Diagnostics, ch. 2 (DFBETAS).
    """
    moved = leave_one_out(law) if shifts is None else shifts
    errors = {estimate.name: estimate.se for estimate in law.params}
    return {name: -shift / error for name, shift in moved.items() if (error := errors[name])}


def noteworthy(num_runs: int) -> float:
    """Size of DFBETAS from which a run deserves a look: 2 / sqrt(n). Source: Belsley, Kuh and Welsch 1980, ch. 2."""
    return 2.0 / float(np.sqrt(num_runs))
