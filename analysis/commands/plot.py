"""`python -m analysis plot TABLE --kind NAME --out FILE`: draw one figure."""

import argparse
import json
from pathlib import Path

from analysis.commands.options import add_beside, add_fit, add_table, check_folder, read_results
from scaling.errors import ConfigError

HELP = "draw one figure of a table, or list those it allows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    add_beside(parser)
    parser.add_argument(
        "--kind", default="list", help="name of a figure (default list: which are possible, and why not)"
    )
    parser.add_argument("--out", metavar="FILE", help="file to write, ending in .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print the list, or what was written, as JSON")


def run(options: argparse.Namespace) -> None:
    """Draw the figure, or list the figures."""
    from analysis.plots import FIGURES, check_ending, draw, save

    if options.kind != "list":
        if not options.out:
            raise ConfigError("--out is missing; name a file that ends in .png, .svg or .pdf")
        check_ending(Path(options.out))
        check_folder("--out", Path(options.out).parent)
        if options.kind not in FIGURES:
            raise ConfigError(f"--kind={options.kind} is not a figure; choose one of list, {', '.join(FIGURES)}")
        picture = save(draw(read_results(options), options.kind), options.out)
        drawn = {"kind": options.kind, "caption": FIGURES[options.kind].caption, "file": str(picture.path)}
        print(json.dumps(drawn, indent=2) if options.json else picture.path)
        return
    results = read_results(options)
    reasons = {name: kind.lacks(results) for name, kind in FIGURES.items()}
    if options.json:
        print(json.dumps([{"kind": name, "lacks": reason} for name, reason in reasons.items()], indent=2))
    else:
        print("\n".join(f"{name:18s} {f'not here: {why}' if why else 'possible'}" for name, why in reasons.items()))
