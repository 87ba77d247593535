"""`python -m analysis report studies/NAME`: a page with everything a study says."""

import argparse
from pathlib import Path

from analysis.commands.options import add_beside, add_by, add_fit, add_table, check_folder, read_groups, read_results
from analysis.report import to_text

HELP = "write a study's report: index.html, figures, fit.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    add_by(parser)
    add_beside(parser)
    parser.add_argument("--json", action="store_true", help="print fit.json instead of a summary")
    parser.add_argument("--out", help="folder (default STUDY/report, or NAME_report beside a file)")


def run(options: argparse.Namespace) -> None:
    """Write the report, print what it says, and say where it is."""
    from analysis.report import write_comparison, write_report

    source = Path(options.table)
    beside = source / "report" if source.is_dir() else source.with_name(f"{source.stem}_report")
    folder = Path(options.out) if options.out else beside
    if options.out:
        check_folder("--out", folder)
    if groups := read_groups(options):
        written = write_comparison(groups, folder, title=source.resolve().stem)
    else:
        results = read_results(options)
        written = write_report(results, folder, title=results.name)
    if options.json:
        print((folder / "fit.json").read_text(), end="")
    else:
        print(to_text(written.findings), folder / "index.html", sep="\n\n")
