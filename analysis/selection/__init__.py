"""Hold the larger runs out: how well a law would have predicted them, and which form to choose by that."""

from analysis.selection.choice import Contender
from analysis.selection.comparison import Comparison, compare
from analysis.selection.held_out import REPLICATES, Backtest, HeldOut, HeldOutRun, backtest
from analysis.selection.origins import REACH, require_few_runs
from analysis.selection.plain import Plain
from analysis.selection.scores import Score

__all__ = [
    "REACH",
    "REPLICATES",
    "Backtest",
    "Comparison",
    "Contender",
    "HeldOut",
    "HeldOutRun",
    "Plain",
    "Score",
    "backtest",
    "compare",
    "require_few_runs",
]
