"""`python -m analysis backtest TABLE --form F`: how well one form predicts larger runs from smaller ones."""

import argparse
import json
from dataclasses import replace
from typing import Any

from analysis.commands.compare import add_reach, score_document
from analysis.commands.options import add_fit, add_table, fit_choice, read_table
from analysis.forms import find_form
from analysis.selection import REPLICATES, Backtest, backtest, require_few_runs
from analysis.study import strict
from scaling.errors import DataError

HELP = "fit one form to the smaller runs and predict the larger ones, from several origins"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    parser.set_defaults(bootstrap=REPLICATES)
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> None:
    """Test and print.

    Raises:
        DataError: if the form could be fitted at no origin: nothing was tested.
    """
    table = read_table(options, find_form(options.form, options.axis).axes)
    require_few_runs(table)
    law = replace(fit_choice(options), replicates=0).apply(table)
    found = backtest(law, reach=options.reach, replicates=options.bootstrap)
    if not found.scores:
        why = "; ".join(dict.fromkeys(test.problem for test in found if test.problem)) or "no size can be held out"
        raise DataError(f"no larger runs could be predicted: {why}; add runs, or take a form of fewer parameters")
    print(json.dumps(strict(backtest_document(found)), indent=2) if options.json else _summary(found))


def backtest_document(found: Backtest) -> dict[str, Any]:
    """Everything a backtest says."""
    table = found.law.table
    return {
        "form": found.law.form.name,
        "rmse_log_loss": found.rmse,
        "coverage_95": found.coverage,
        "origins": [score_document(score) for score in found.scores],
        "not_fitted": [
            {"axis": test.axis, "size": test.origin.size, "problem": test.problem} for test in found if test.problem
        ],
        "plain": [
            {"name": one.name, "origins": [score_document(score) for score in one.scores]} for one in found.plain
        ],
        "no_power_law_because": list(found.against),
        "cautions": list(found.law.cautions),
        "n": len(table),
        "excluded": [{"run": row.run, "reason": row.reason} for row in table.excluded],
    }


def _summary(found: Backtest) -> str:
    """A line for each origin, then what needs no law."""
    table = found.law.table
    lines = [f"{found.law.form.name}: error of log loss on larger runs, mean over the origins {found.rmse:.4f}"]
    for test in found:
        up_to = f"  {test.axis} up to {test.origin.size:.4g}"
        if test.law is None or test.rmse is None or test.coverage is None:
            lines.append(f"{up_to}: {test.problem}")
            continue
        lines.append(
            f"{up_to}: {len(test.law.table)} runs fitted, {len(test.runs)} predicted to {test.rmse:.4f}, "
            f"{test.coverage:.0%} inside their 95 % interval"
        )
    lines += [f"  {one.name}: {one.rmse:.4f}" for one in found.plain if one.scores]
    lines += [f"  {reason}" for reason in found.against]
    lines += [f"  {caution}" for caution in found.law.cautions]
    lines += [f"  excluded {row.run}: {row.reason}" for row in table.excluded]
    return "\n".join(lines)
