"""What to run next: the runs that narrow the interval of a prediction most for what they cost."""

from analysis.design.advice import NextRuns, next_runs
from analysis.design.candidates import Candidates, own_grid
from analysis.design.information import State, log_width, state_of
from analysis.design.plans import Plan, Run
from analysis.design.targets import Target, find_target

__all__ = [
    "Candidates",
    "NextRuns",
    "Plan",
    "Run",
    "State",
    "Target",
    "find_target",
    "log_width",
    "next_runs",
    "own_grid",
    "state_of",
]
