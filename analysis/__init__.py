"""The law of test loss against parameters and data: read runs, fit, test the fit, draw it.

>>> from analysis import backtest, fit, load_runs, plot
>>> law = fit(load_runs("studies/quickstart"))
>>> law["alpha"].value, law["alpha"].ci95
"""

from typing import TYPE_CHECKING, Any

from analysis.compute import frontier
from analysis.fitting import fit
from analysis.selection import backtest, compare
from analysis.tables import load_runs

if TYPE_CHECKING:
    from analysis.plots import plot

__all__ = ["backtest", "compare", "fit", "frontier", "load_runs", "plot"]


def __getattr__(name: str) -> Any:
    """Load matplotlib only when something is drawn."""
    if name == "plot":
        from analysis.plots import plot

        return plot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
