"""`python -m analysis fit TABLE`: fit one form and print it."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from analysis.commands.options import add_by, add_fit, add_table, check_folder, read_groups, read_results
from analysis.report import (
    Section,
    Sentence,
    backtest_section,
    cautions_of,
    estimates_section,
    law_section,
    limits_section,
    to_text,
)
from analysis.study import Groups, Results, law_document, strict, verdicts, write_document
from analysis.tables import Excluded
from scaling.errors import DataError

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
        document, summary = groups.document, _of_groups(groups)
    else:
        results = read_results(options)
        document, summary = law_document(results.law, results.backtests), _of_one(results)
    if options.out:
        write_document(document, Path(options.out))
    print(json.dumps(strict(document), indent=2) if options.json else summary)


def _of_one(results: Results) -> str:
    """The law, its limits, its parameters and its backtest, as the report has them."""
    sections = [
        law_section(results),
        limits_section(results),
        estimates_section(results.law),
        backtest_section(results),
    ]
    return "\n".join([to_text(sections), *_excluded(results.table.excluded)])


def _of_groups(groups: Groups) -> str:
    """Each law, and whether they differ."""
    unasked = "" if groups.asked else " (--by none fits one law to all)"
    lines = [f"A law for each {groups.by}{unasked}"]
    for name, one in groups.results.items():
        lines += ["", f"== {name}", f"no law: {one.problem}" if one.problem else _of_one(one)]
    differ = [Sentence(text, "yes" if known else "no") for text, known in verdicts(groups.differences)]
    comparison = [
        Section("Do the laws differ?", differ),
        Section("What limits the comparison", cautions_of(groups.cautions)),
    ]
    return "\n".join([*lines, "", to_text(comparison), *_excluded(groups.excluded)])


def _excluded(rows: Iterable[Excluded]) -> list[str]:
    return [f"excluded {row.run}: {row.reason}" for row in rows]
