"""`python -m analysis frontier TABLE`: what a budget of FLOPs is best spent on."""

import argparse
import json

from analysis.commands.options import add_fit, add_table, read_law
from analysis.compute import DEFAULT_SHARE, decide
from analysis.report import decisions_document, decisions_text
from analysis.study import conventions, strict

HELP = "say what compute is best spent on: sizes for each budget, their limits, what more still buys"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    parser.add_argument("--budgets", type=float, nargs="+", metavar="C", help="FLOPs (default around the largest run)")
    parser.add_argument(
        "--flops-per-nd", type=float, metavar="K", help="C = K N D (default: measured from the table's FLOPs, else 6)"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=DEFAULT_SHARE,
        help=f"an axis is saturated where all further growth lowers the loss by this share (default {DEFAULT_SHARE})",
    )
    parser.add_argument("--json", action="store_true", help="print the decisions as data")


def run(options: argparse.Namespace) -> None:
    """Fit, decide, print."""
    law = read_law(options)
    decisions = decide(law, options.budgets, flops_per_nd=options.flops_per_nd, share=options.share)
    if options.json:
        print(json.dumps(strict(decisions_document(decisions) | {"conventions": conventions(law)}), indent=2))
    else:
        print(decisions_text(decisions))
