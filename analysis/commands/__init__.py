"""The commands of `python -m analysis`: one module each, with HELP, add_arguments and run."""

from analysis.commands import backtest, compare, fit, frontier, next, plot, report

COMMANDS = {
    "fit": fit,
    "compare": compare,
    "backtest": backtest,
    "frontier": frontier,
    "next": next,
    "report": report,
    "plot": plot,
}

__all__ = ["COMMANDS"]
