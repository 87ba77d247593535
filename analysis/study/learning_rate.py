"""The best learning rate of each model size: a parabola of log loss in the log of the learning rate."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.arrays import FloatArray
from analysis.tables import RunTable, numbers, searched_sizes

FEWEST = 3  # minima that determine how the best rate goes with N


@dataclass(frozen=True)
class BestRate:
    """One model size, its runs at the largest data size that has enough rates, and their parabola.

    Attributes:
        rates, loss: (K,) of the runs.
        coefficients: (3,) of log loss = c2 x^2 + c1 x + c0, x the log of the rate.
        best: the rate at the minimum; None where the parabola has none, or none among the rates tried.
        ci95: by the delta method from the parabola's residuals; None where no run is left to estimate them from.
        problem: why there is no best rate.
    """

    num_params: float
    data_size: float
    rates: FloatArray
    loss: FloatArray
    coefficients: FloatArray
    best: float | None
    ci95: tuple[float, float] | None
    problem: str | None


@dataclass(frozen=True)
class LearningRates:
    """The best rate of each size, and best rate = factor * N^slope where at least three sizes have one.

    Attributes:
        slope: with its standard error, from least squares over the sizes' logarithms.
    """

    column: str
    sizes: tuple[BestRate, ...]
    factor: float | None
    slope: tuple[float, float] | None


def find_learning_rates(table: RunTable) -> LearningRates | None:
    """The best rate of each model size, None unless some size was run with at least three rates."""
    column, searched = searched_sizes(table)
    if column is None or not searched:
        return None
    rates = numbers(table, column)
    found = [_best(size, data_size, rates[runs], table.loss[runs]) for size, data_size, runs in searched]
    factor, slope = _slope([size for size in found if size.best is not None])
    return LearningRates(column, tuple(found), factor, slope)


def _best(num_params: float, data_size: float, rates: FloatArray, loss: FloatArray) -> BestRate:
    order = np.argsort(rates, kind="stable")
    rates, loss = rates[order], loss[order]
    x, y = np.log(rates), np.log(loss)
    centre = x.mean()
    design = np.vander(x - centre, 3)
    local = np.linalg.lstsq(design, y, rcond=None)[0]
    quadratic, linear, constant = local
    public = np.array([quadratic, linear - 2 * quadratic * centre, constant - linear * centre + quadratic * centre**2])
    if quadratic <= 0:
        return BestRate(num_params, data_size, rates, loss, public, None, None, "the loss has no minimum in the rate")
    vertex = -linear / (2 * quadratic)
    if not x[0] <= vertex + centre <= x[-1]:
        side = "below" if vertex + centre < x[0] else "above"
        problem = f"the minimum lies {side} the rates tried"
        return BestRate(num_params, data_size, rates, loss, public, None, None, problem)
    ci95, freedom = None, len(x) - 3
    if freedom > 0:
        variance = float(((y - design @ local) ** 2).sum()) / freedom
        covariance = variance * np.linalg.inv(design.T @ design)
        gradient = np.array([linear / (2 * quadratic**2), -1 / (2 * quadratic), 0.0])
        half = float(stdtrit(freedom, 0.975) * np.sqrt(gradient @ covariance @ gradient))
        ci95 = (float(np.exp(vertex + centre - half)), float(np.exp(vertex + centre + half)))
    return BestRate(num_params, data_size, rates, loss, public, float(np.exp(vertex + centre)), ci95, None)


def _slope(sizes: list[BestRate]) -> tuple[float | None, tuple[float, float] | None]:
    if len(sizes) < FEWEST:
        return None, None
    x = np.log([size.num_params for size in sizes])
    y = np.log([size.best or np.nan for size in sizes])
    design = np.column_stack([x - x.mean(), np.ones_like(x)])
    slope, level = np.linalg.lstsq(design, y, rcond=None)[0]
    variance = float(((y - design @ np.array([slope, level])) ** 2).sum()) / (len(x) - 2)
    error = float(np.sqrt(variance / ((x - x.mean()) ** 2).sum()))
    return float(np.exp(level - slope * x.mean())), (float(slope), error)
