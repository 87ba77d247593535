"""Fit a form to a table of runs: the law, its intervals, whether it is determined, whether it fits, who carries it."""

from analysis.fitting.cautions import find_cautions, flaws_of_fit
from analysis.fitting.choice import FitChoice, refit
from analysis.fitting.descent import Minimum, minimize
from analysis.fitting.identify import Verdict
from analysis.fitting.influence import (
    Influence,
    Lever,
    dfbetas,
    influences,
    leave_one_out,
    lever,
    noteworthy,
    too_many_runs,
)
from analysis.fitting.intervals import LEVELS, PROFILE_BELOW, Uncertainty
from analysis.fitting.law import Estimate, Law, fit
from analysis.fitting.misfit import LackOfFit, chance_of_constant, neighbour_correlation
from analysis.fitting.objective import LITERATURE_DELTA, SMALL_TABLE, Objective, Problem, make_problem
from analysis.fitting.optimum import EXACT_FIT, SMALL_GRADIENT, Optimum, names_at_bound, settle_objective, spread
from analysis.fitting.profile import Interval, numerical
from analysis.fitting.resampling import DEFAULT_REPLICATES, Bootstrap, balanced_counts, interval, resampling_unit

__all__ = [
    "DEFAULT_REPLICATES",
    "EXACT_FIT",
    "LEVELS",
    "LITERATURE_DELTA",
    "PROFILE_BELOW",
    "SMALL_GRADIENT",
    "SMALL_TABLE",
    "Bootstrap",
    "Estimate",
    "FitChoice",
    "Influence",
    "Interval",
    "LackOfFit",
    "Law",
    "Lever",
    "Minimum",
    "Objective",
    "Optimum",
    "Problem",
    "Uncertainty",
    "Verdict",
    "balanced_counts",
    "chance_of_constant",
    "dfbetas",
    "find_cautions",
    "fit",
    "flaws_of_fit",
    "influences",
    "interval",
    "leave_one_out",
    "lever",
    "make_problem",
    "minimize",
    "names_at_bound",
    "neighbour_correlation",
    "noteworthy",
    "numerical",
    "refit",
    "resampling_unit",
    "settle_objective",
    "spread",
    "too_many_runs",
]
