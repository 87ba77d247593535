"""`python -m analysis compare TABLE`: which form predicts larger runs from smaller ones."""

import argparse
import json
from typing import Any

from analysis.commands.options import add_objective, add_table, read_table
from analysis.fitting import find_cautions
from analysis.forms import FORMS, find_form
from analysis.selection import REACH, REPLICATES, Comparison, Contender, Plain, Score, compare
from analysis.study import strict
from analysis.tables import AXES, RunTable, distinct_sizes
from scaling.errors import ConfigError

HELP = "fit forms to the smaller runs, predict the larger ones: rank, choose, reject"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    parser.add_argument("--forms", help=f"which, separated by commas, of {', '.join(FORMS)} (default all that apply)")
    add_objective(parser)
    parser.set_defaults(bootstrap=REPLICATES)
    add_reach(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def add_reach(parser: argparse.ArgumentParser) -> None:
    """How far is predicted."""
    text = f"factor in size by which runs are predicted ahead, at least the next size (default {REACH:g})"
    parser.add_argument("--reach", type=float, default=REACH, help=text)


def run(options: argparse.Namespace) -> None:
    """Compare and print."""
    forms = [name.strip() for name in options.forms.split(",")] if options.forms else None
    found = compare(
        _read(options, forms),
        forms,
        axis=options.axis,
        objective=options.objective,
        delta=options.delta,
        reach=options.reach,
        replicates=options.bootstrap,
        seed=options.seed,
    )
    print(json.dumps(strict(comparison_document(found)), indent=2) if options.json else _summary(found))


def comparison_document(found: Comparison) -> dict[str, Any]:
    """Everything a comparison says."""
    return {
        "chosen": found.chosen.name if found.chosen else None,
        "best": found.best.name,
        "verdict": found.verdict,
        "no_power_law_because": list(found.against),
        "contenders": [_contender_document(one) for one in found.contenders],
        "plain": [{"name": one.name, "rmse_log_loss": one.rmse} for one in found.plain],
        "cautions": list(find_cautions(found.table)),
        "n": len(found.table),
        "excluded": [{"run": row.run, "reason": row.reason} for row in found.table.excluded],
        "objective_name": found.objective.name,
        "delta": found.objective.own_delta,
        "conventions": {
            "rmse_log_loss": "Root mean square of log of predicted over observed loss; mean over origins.",
            "origins": f"Runs up to a size are fitted, those up to {found.reach:g} times larger "
            "(at least the next size) are predicted; from the largest size down. N of several widths and depths is cut "
            "by width, at every depth.",
            "coverage_95": "Share of the held-out runs inside the 95 % interval of single runs that the law of the "
            "fitted ones reports.",
            "worse_than_lowest": "Mean difference of the error from the lowest one, and its standard error over the "
            "origins. Origins share runs, so that error is a guide, not a test.",
            "chosen": "The least claim (parameters but for a floor; a floor; the largest sizes alone) whose error is "
            "within one standard error of the lowest.",
        },
    }


def _contender_document(one: Contender) -> dict[str, Any]:
    """One form in one window: its errors, its coverage, why it is not the chosen one."""
    return {
        "name": one.name,
        "form": one.form.name,
        "from_size": one.smallest if one.window else None,
        "n": one.num_runs,
        "rmse_log_loss": one.rmse,
        "worse_than_lowest": {"mean": one.worse[0], "se": one.worse[1]} if one.worse else None,
        "coverage_95": one.coverage,
        "at_bound": list(one.at_bound),
        "rejected_because": list(one.reasons),
        "origins": [score_document(score) for score in one.scores],
    }


def score_document(score: Score) -> dict[str, Any]:
    """One origin's score."""
    return {
        "axis": score.axis,
        "size": score.size,
        "n_fitted": score.num_fitted,
        "n_held_out": score.num_held_out,
        "rmse_log_loss": score.rmse,
        "coverage_95": score.coverage,
    }


def _read(options: argparse.Namespace, forms: list[str] | None) -> RunTable:
    """The table with the axes that the forms need, or with those of N and D that vary."""
    if options.axis:
        return read_table(options, (options.axis,))
    if forms:
        return read_table(options, tuple(dict.fromkeys(axis for name in forms for axis in find_form(name).axes)))
    probe = read_table(options, ())
    derived = {"D"} if options.flops and not options.data_size and "N" in probe.sizes else set()
    present = [axis for axis in ("N", "D") if axis in {*probe.sizes, *derived}]
    vary = [axis for axis in present if axis in derived or len(distinct_sizes(probe.axis(axis))) > 1]
    if not present:
        names = " or ".join(f"--{AXES[axis].option.replace('_', '-')}" for axis in ("N", "D"))
        raise ConfigError(f"{probe.source} has no column of sizes; name one with {names}")
    return read_table(options, tuple(vary or present))


def _summary(found: Comparison) -> str:
    """The verdict, and below it every form from the lowest error up."""
    lines = [
        found.verdict,
        f"{'':28s}{'error':>8s}{'coverage':>10s}   (error of log loss on larger runs; of 95 % intervals)",
    ]
    rows: list[Contender | Plain] = [one for one in found.contenders if one.scores]
    rows += list(found.plain)
    for one in sorted(rows, key=lambda row: row.rmse):
        covered = one.coverage if isinstance(one, Contender) else None
        mark = "*" if one is found.chosen else " "
        text = "-" if covered is None else f"{covered:.0%}"
        lines.append(f"{mark} {one.name:26s}{one.rmse:8.4f}{text:>10s}")
    lines += [f"  {one.name}: {'; '.join(one.reasons)}" for one in found.contenders if one.reasons]
    lines += [f"  {caution}" for caution in find_cautions(found.table)]
    lines += [f"  excluded {row.run}: {row.reason}" for row in found.table.excluded]
    return "\n".join(lines)
