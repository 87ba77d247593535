"""`python -m analysis backtest TABLE --form F`: how well one form predicts larger runs from smaller ones."""

import argparse
import json

from analysis.commands.compare import add_reach, score_document
from analysis.commands.options import add_fit, add_table, read_table
from analysis.fitting.cautions import find_cautions
from analysis.forms.registry import find_form
from analysis.selection.compare import REPLICATES, compare
from analysis.study.document import strict

HELP = "fit one form to the smaller runs and predict the larger ones, from several origins"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    parser.set_defaults(bootstrap=REPLICATES)
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> None:
    """Test and print."""
    found = compare(
        read_table(options, find_form(options.form, options.axis).axes),
        [options.form],
        axis=options.axis,
        objective=options.objective,
        delta=options.delta,
        reach=options.reach,
        windows=(None,),
        replicates=options.bootstrap,
        seed=options.seed,
    )
    if options.json:
        document = {
            "form": found.best.form.name,
            "rmse_log_loss": found.best.rmse,
            "coverage_95": found.best.coverage,
            "origins": [score_document(score) for score in found.best.scores],
            "plain": [
                {"name": one.name, "origins": [score_document(score) for score in one.scores]} for one in found.plain
            ],
            "no_power_law_because": list(found.against),
            "cautions": list(find_cautions(found.table)),
            "n": len(found.table),
            "excluded": [{"run": row.run, "reason": row.reason} for row in found.table.excluded],
        }
        print(json.dumps(strict(document), indent=2))
        return
    lines = [f"{found.best.form.name}: error of log loss on larger runs, mean over the origins {found.best.rmse:.4f}"]
    for score in found.best.scores:
        covered = "" if score.coverage is None else f", {score.coverage:.0%} inside their 95 % interval"
        lines.append(
            f"  {score.axis} up to {score.size:.4g}: {score.num_fitted} runs fitted, "
            f"{score.num_held_out} predicted to {score.rmse:.4f}{covered}"
        )
    lines += [f"  {one.name}: {one.rmse:.4f}" for one in found.plain]
    lines += [f"  {reason}" for reason in found.against]
    lines += [f"  {caution}" for caution in find_cautions(found.table)]
    lines += [f"  excluded {row.run}: {row.reason}" for row in found.table.excluded]
    print("\n".join(lines))
