"""Tests of a fit by its residuals: whether they follow the sizes or each other, and whether a constant would do.

Legend of shapes: P parameters, A axes, M runs, K columns.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import fdtrc

from analysis.arrays import FloatArray, IntArray
from analysis.fitting.optimum import Optimum

SIGNIFICANT = 0.05
"""Share of true forms that are suspected; the simulated studies of docs/benchmarks.md give that of false ones."""
SEEN = 1e-3
"""A direction shorter than this, of columns of unit length, is one the form can express."""
FEWEST = 3
"""Degrees of freedom that must be left to measure the noise by."""
FEWEST_NEIGHBOURS = 6
"""Residuals below which their correlation says more of chance than of the form."""


@dataclass(frozen=True)
class LackOfFit:
    """An F test of the form; `p_value` is None where the runs are too few to test it."""

    p_value: float | None
    against: str

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANT

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.p_value is None:
            return "there are too few runs to test the form itself"
        if self.significant:
            return (
                f"the form does not fit: {self.against} (p = {self.p_value:.2g}), so its exponents describe these "
                "sizes, and intervals of extrapolations are too narrow"
            )
        return f"no lack of fit is seen (p = {self.p_value:.2g})"


def lack_of_fit(optimum: Optimum, group: IntArray) -> LackOfFit:
    """Test the form with the residuals, bounded as the objective bounds them.

    They are regressed on what the form cannot express: the products of the log axes, then their squares and cubes, each
    less their projection on the Jacobian (Ramsey's test, with the axes). These are two tests, so the smaller p-value is
    doubled. Runs of one group (the seeds of one configuration) enter as their mean, so a misfit that differs from
    configuration to configuration without a pattern is noise here; the intervals hold it already.

    Source: Ramsey 1969, doi:10.1111/j.2517-6161.1969.tb00796.x.
    """
    residual, jacobian = optimum.problem.residuals(optimum.theta[None])
    root = np.sqrt(np.bincount(group))
    psi = np.bincount(group, weights=optimum.objective.psi(residual[0])) / root
    first = np.unique(group, return_index=True)[1]
    basis = np.linalg.svd(_unit(root * jacobian[0][:, first]), full_matrices=False)[2]
    rest = psi - basis.T @ (basis @ psi)
    tests = [_pattern(rest, root * columns, basis) for columns in _curvatures(optimum.problem.logs[:, first])]
    found = [p_value for p_value in tests if p_value is not None]
    axes = " and ".join(optimum.problem.form.axes)
    return LackOfFit(min(1.0, len(found) * min(found)) if found else None, f"the residuals follow a pattern in {axes}")


def neighbour_correlation(residual: FloatArray, log_predicted: FloatArray, group: IntArray) -> float:
    """Correlation of residuals next to each other in order of predicted loss, in standard errors; 0 if too few.

    About a standard normal where the residuals are random. The seeds of one configuration (a group) share its misfit
    whatever the form, so they enter as their mean. Source: the lag-one autocorrelation's large-sample error,
    1 / sqrt(n): Box, Jenkins and Reinsel 1994, sec. 2.1.6.

    Args:
        residual, log_predicted: (M,) of the fitted runs, in any order.
        group: (M,) number of the independent observation that a run belongs to.
    """
    group = np.unique(group, return_inverse=True)[1]
    count = np.bincount(group)
    predicted, mean = (np.bincount(group, row) / count for row in (log_predicted, residual))
    ordered = mean[np.argsort(predicted, kind="stable")]
    squares = float((ordered**2).sum())
    if len(ordered) < FEWEST_NEIGHBOURS or squares <= 0:
        return 0.0
    return float((ordered[1:] * ordered[:-1]).sum() / squares * np.sqrt(len(ordered)))


def chance_of_constant(log_loss: FloatArray, residual: FloatArray, num_parameters: int) -> float:
    """p-value of a form (M residuals) against a constant, by an F test; approximate, as the form is not linear."""
    extra, freedom = num_parameters - 1, len(residual) - num_parameters
    squares, constant = float((residual**2).sum()), float(((log_loss - log_loss.mean()) ** 2).sum())
    if constant <= squares or freedom < 1:
        return 1.0
    return 0.0 if squares <= 0 else _p_value(constant - squares, extra, squares, freedom)


def _pattern(rest: FloatArray, columns: FloatArray, basis: FloatArray) -> float | None:
    """The p-value of regressing the residuals `rest` (M,) on what is left of the columns (K, M) beside the basis."""
    if not len(columns):
        return None
    columns = _unit(columns)
    columns = columns - (columns @ basis.T) @ basis
    length, directions = np.linalg.svd(columns, full_matrices=False)[1:]
    directions = directions[length > SEEN]
    left = len(rest) - len(basis) - len(directions)
    if not len(directions) or left < FEWEST:
        return None
    explained = float(((directions @ rest) ** 2).sum())
    return _p_value(explained, len(directions), float(rest @ rest) - explained, left)


def _curvatures(logs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Products of pairs of axes (K, M); squares and cubes of each; the axes scaled to unit spread.

    The products are tested apart: most forms add up terms of one axis each, and this is what such a sum cannot do.
    """
    spread = logs.std(1, keepdims=True)
    axes = (logs - logs.mean(1, keepdims=True)) / np.maximum(spread, 1e-12)
    products = [axes[i] * axes[j] for i, j in combinations(range(len(axes)), 2)]
    return np.array(products).reshape(-1, logs.shape[1]), np.concatenate([axes**2, axes**3])


def _unit(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _p_value(explained: float, freedom: int, left: float, freedom_left: int) -> float:
    if left <= 0:
        return 1.0
    return float(fdtrc(freedom, freedom_left, explained / freedom / (left / freedom_left)))
