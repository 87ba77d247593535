"""`python -m analysis fit TABLE`: fit one form and print it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands.options import add_by, add_fit, add_table, check_folder, read_groups, read_law
from analysis.fitting.law import Law
from analysis.selection.held_out import HeldOut, backtest
from analysis.study.contrast import verdicts
from analysis.study.document import law_document, strict, write_document
from analysis.tables import mixtures
from scaling.errors import DataError

if TYPE_CHECKING:
    from analysis.study.groups import Groups

HELP = "fit one form to a table and print it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    add_by(parser)
    parser.add_argument("--json", action="store_true", help="print fit.json instead of a summary")
    parser.add_argument("--out", help="also write fit.json here")


def run(options: argparse.Namespace) -> None:
    """Fit, test the fit, print it."""
    if options.out:
        check_folder("--out", Path(options.out).parent)
    if groups := read_groups(options):
        if not groups.laws:
            raise DataError("; ".join(f"{name}: {problem}" for name, problem in groups.unfitted.items()))
        document, summary = groups.document, _comparison(groups)
    else:
        law = read_law(options)
        backtests = backtest(law, every_origin=False)
        document, summary = law_document(law, backtests), _summary(law, backtests)
    if options.out:
        write_document(document, Path(options.out))
    print(json.dumps(strict(document), indent=2) if options.json else summary)


def _comparison(groups: "Groups") -> str:
    """Each law, and whether they differ."""
    unasked = "" if groups.asked else " (--by none fits one law to all)"
    lines = [f"A law for each {groups.by}{unasked}"]
    for name, results in groups.results.items():
        told = results.problem if results.problem else _summary(results.law, results.backtests)
        lines += ["", name, f"no law: {told}" if results.problem else told]
    lines += ["", *(sentence for sentence, _ in verdicts(groups.differences))]
    lines += [f"caution: {text}" for text in groups.cautions]
    return "\n".join([*lines, *(f"excluded {row.run}: {row.reason}" for row in groups.excluded)])


def _summary(law: Law, backtests: Sequence[HeldOut]) -> str:
    lines = [f"L = {law.form.formula}   ({len(law.table)} runs, {len(law.table.excluded)} excluded)"]
    for estimate in law.params:
        spread = f"   95 % [{estimate.ci95[0]:.4g}, {estimate.ci95[1]:.4g}]" if estimate.ci95 else ""
        lines.append(f"  {estimate.name:6s}{estimate.value:12.5g}{spread}")
    lines += [f"  {verdict.sentence}" for verdict in law.verdicts]
    lines.append(f"  {law.lack_of_fit.sentence}")
    optimum = law.optimum
    state = "converged" if optimum.converged else "NOT converged"
    delta = f", delta {optimum.objective.delta:.3g}" if optimum.objective.name == "huber" else ""
    lines.append(
        f"  {optimum.objective.name} sum {optimum.value:.6g}{delta}; {state}, "
        f"{optimum.starts_agreeing} of {optimum.starts} starts agree; residual standard deviation "
        f"{law.residual_sd:.3f} in log loss"
    )
    for test in backtests:
        if test.rmse is None or test.coverage is None:
            lines.append(f"  without the largest {test.axis}: {test.problem}")
        else:
            inside = f"{test.coverage:.0%} of {len(test.runs)} runs inside their 95 % interval"
            lines.append(f"  without the largest {test.axis}: predicts it to {test.rmse:.3f} in log loss, {inside}")
    lines += [f"  {caution}" for caution in mixtures(law.table)]
    lines += [f"  excluded {row.run}: {row.reason}" for row in law.table.excluded]
    return "\n".join(lines)
