"""Which single runs the law leans on: how far it moves when one is left out."""

import numpy as np

from analysis.fit import Law
from analysis.minimize import minimize
from analysis.terms import FloatArray


def leave_one_out(law: Law) -> dict[str, FloatArray]:
    """For each parameter the change (M,) of its value when the run is left out and the law refitted."""
    optimum = law.optimum
    counts = 1.0 - np.eye(len(law.table))
    start = np.repeat(optimum.theta[None], len(law.table), axis=0)
    theta = minimize(optimum.problem, optimum.objective, counts, start).theta
    values = law.form.public(theta, optimum.centre, optimum.scale)
    return {estimate.name: values[:, i] - estimate.value for i, estimate in enumerate(law.params)}
