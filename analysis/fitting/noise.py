"""The scatter of the runs as the objective sees it: what a rise of its sum is measured by.

Legend of shapes: P parameters, M runs, G groups.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from analysis.arrays import FloatArray, IntArray
from analysis.fitting.optimum import Optimum

TINY = 1e-300


@dataclass(frozen=True)
class Noise:
    """What a rise of the objective is measured by.

    Attributes:
        objective_per_f: rise of the sum for which F = 1.
        slope: mean of psi', the objective's curvature over that of least squares.
        freedom: degrees of freedom: groups of runs minus parameters, where the groups are of one size.
    """

    objective_per_f: float
    slope: float
    freedom: float

    def rise(self, level: float) -> float:
        """The rise of the objective at the ends of an interval of this level."""
        return self.objective_per_f * float(fdtri(1, self.freedom, level))


def noise_of(optimum: Optimum, group: IntArray) -> Noise:
    """The scale of the objective's rise, from the residuals.

    2 (rho(theta) - rho(theta_hat)) mean(psi') / s^2 is close to F with 1 and M - P degrees of freedom, where psi is
    rho' and s^2 = sum(psi^2) / (M - P). Runs of one group (the seeds of one configuration) share the misfit of their
    sizes: their psi is summed first, z = S psi, so that runs that err alike count as one. Of errors that are
    independent, the residuals have the covariance I - H (H projects on the P columns of J) and z has A = S (I - H) S^T;
    so s^2 = z^T z / tr(A) has their variance as its mean, and it has tr(A)^2 / tr(A^2) degrees of freedom
    (Satterthwaite's). For G groups of one size that is G - P. It takes all groups to scatter alike.

    Source: Huber and Ronchetti 2009, Robust Statistics, ch. 7 (tests with M-estimates); groups as in the cluster-robust
    covariance of Liang and Zeger 1986, doi:10.1093/biomet/73.1.13, its bias and degrees of freedom as in Bell and
    McCaffrey 2002, Survey Methodology 28, 169.
    """
    residuals, jacobian = optimum.problem.residuals(optimum.theta[None])
    residual, objective = residuals[0], optimum.objective
    psi, slope = objective.psi(residual), _slope(optimum, residual)
    size = np.bincount(group).astype(float)
    basis = np.linalg.qr(jacobian[0].T)[0]
    fitted = np.stack([np.bincount(group, weights=column) for column in basis.T], axis=1)  # (G, P) S Q, where H = Q Q^T
    summed = np.bincount(group, weights=psi)
    trace = max(float(size.sum() - (fitted**2).sum()), 1.0)
    square = float((size**2).sum() - 2 * size @ (fitted**2).sum(1) + ((fitted.T @ fitted) ** 2).sum())
    freedom = max(trace**2 / max(square, 1.0), 1.0)
    return Noise(0.5 * float(summed @ summed) / trace / slope, slope, freedom)


def _slope(optimum: Optimum, residual: FloatArray) -> float:
    """Mean of psi'. Where delta holds few runs, the density of residuals at zero is taken over a wider window.

    The window shrinks as n^(-1/3), as Hall and Sheather's for the median (1988, J. R. Stat. Soc. B 50, 381); the P runs
    that a fit by absolute values goes exactly through are not counted.
    """
    objective, num_parameters = optimum.objective, len(optimum.theta)
    if objective.name == "least_squares":
        return 1.0
    size, num_runs = np.abs(residual), len(residual)
    window = float(np.quantile(size, min(1.0, 1.5 * num_runs ** (-1 / 3) + num_parameters / num_runs)))
    if objective.delta >= window:
        return float((size < objective.delta).mean())
    inside = max(float((size <= window).sum()) - num_parameters, 1.0) / max(num_runs - num_parameters, 1)
    unit = objective.delta if objective.name == "huber" else 1.0
    return unit * inside / max(window, TINY)
