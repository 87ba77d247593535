"""What compute is best spent on: the cost of runs, optimal sizes and shapes, what more of an axis still buys."""

from analysis.compute.allocation import Derived
from analysis.compute.cost import HOURS_COLUMN, Cost, FlopsRule, measure_cost
from analysis.compute.decisions import NOTABLE_DRIFT, Decisions, decide
from analysis.compute.optimal import Frontier, frontier, optimal_log_n, repetitions, unusable
from analysis.compute.parabolas import IsoFlop, isoflop
from analysis.compute.returns import DEFAULT_SHARE, Marginal, Saturation, marginal_values, saturation
from analysis.compute.shape import (
    SHAPE_WEIGHTS,
    BestShape,
    best_shape,
    measure_shape,
    open_question,
    require_shape,
    shape_budgets,
)
from analysis.compute.size_cost import SizeCost

__all__ = [
    "DEFAULT_SHARE",
    "HOURS_COLUMN",
    "NOTABLE_DRIFT",
    "SHAPE_WEIGHTS",
    "BestShape",
    "Cost",
    "Decisions",
    "Derived",
    "FlopsRule",
    "Frontier",
    "IsoFlop",
    "Marginal",
    "Saturation",
    "SizeCost",
    "best_shape",
    "decide",
    "frontier",
    "isoflop",
    "marginal_values",
    "measure_cost",
    "measure_shape",
    "open_question",
    "optimal_log_n",
    "repetitions",
    "require_shape",
    "saturation",
    "shape_budgets",
    "unusable",
]
