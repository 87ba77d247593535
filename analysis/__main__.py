"""`python -m analysis fit TABLE` and `python -m analysis report studies/NAME`."""

import argparse
import json
import sys
from pathlib import Path

from analysis.backtest import Backtest, backtest
from analysis.document import law_document, strict, write_document
from analysis.fit import Law, fit
from analysis.forms import FORMS, find_form
from analysis.tables import AXES, LOSS_COLUMN, RunTable, load_runs
from analysis.uncertainty import DEFAULT_REPLICATES
from scaling.errors import DataError, ScalingError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and the error's exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "fit":
            _fit(options)
        else:
            _report(options)
    except ScalingError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return DataError.exit_code
    return 0


def _fit(options: argparse.Namespace) -> None:
    law = fit(
        _load(options),
        options.form,
        axis=options.axis,
        objective=options.objective,
        delta=options.delta,
        replicates=options.bootstrap,
        seed=options.seed,
    )
    backtests = backtest(law)
    document = law_document(law, backtests)
    if options.out:
        write_document(document, Path(options.out))
    print(json.dumps(strict(document), indent=2) if options.json else _summary(law, backtests))


def _report(options: argparse.Namespace) -> None:
    from analysis.report import FitChoice, write_report

    choice = FitChoice(options.form, options.axis, options.objective, options.delta, options.bootstrap, options.seed)
    source = Path(options.table)
    folder = (
        Path(options.out)
        if options.out
        else source / "report"
        if source.is_dir()
        else source.with_name(f"{source.stem}_report")
    )
    written = write_report(_load(options), choice, folder, title=source.resolve().stem)
    if options.json:
        print((folder / "fit.json").read_text(), end="")
    else:
        print("\n".join([written.headline, *written.verdicts, str(folder / "index.html")]))


def _load(options: argparse.Namespace) -> RunTable:
    columns = {axis.option: getattr(options, axis.option) for axis in AXES.values()}
    axes = find_form(options.form, options.axis).axes
    return load_runs(options.table, loss=options.loss, axes=axes, **columns).drop_highest(options.drop_highest)


def _summary(law: Law, backtests: tuple[Backtest, ...]) -> str:
    lines = [f"L = {law.form.formula}   ({len(law.table)} runs, {len(law.table.excluded)} excluded)"]
    for estimate in law.params:
        spread = f"   95 % [{estimate.ci95[0]:.4g}, {estimate.ci95[1]:.4g}]" if estimate.ci95 else ""
        lines.append(f"  {estimate.name:6s}{estimate.value:12.5g}{spread}")
    lines += [f"  {verdict.sentence}" for verdict in law.verdicts]
    optimum = law.optimum
    state = "converged" if optimum.converged else "NOT converged"
    delta = f", delta {optimum.objective.delta:.3g}" if optimum.objective.name == "huber" else ""
    lines.append(
        f"  {optimum.objective.name} sum {optimum.value:.6g}{delta}; {state}, "
        f"{optimum.starts_agreeing} of {optimum.starts} starts agree; residual scatter {law.scatter:.3f} in log loss"
    )
    for test in backtests:
        if test.rmse is None or test.coverage is None:
            lines.append(f"  without the largest {test.axis}: {test.problem}")
        else:
            inside = f"{test.coverage:.0%} of {len(test.runs)} runs inside their 95 % interval"
            lines.append(f"  without the largest {test.axis}: predicts it to {test.rmse:.3f} in log loss, {inside}")
    lines += [f"  excluded {row.run}: {row.reason}" for row in law.table.excluded]
    return "\n".join(lines)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Fit scaling laws and report on studies.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("fit", "fit one form to a table and print it"),
        ("report", "write a study's report: index.html, figures, fit.json"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("table", help="CSV, JSONL or Parquet file, or a study's directory")
        command.add_argument("--form", default="chinchilla", help=f"one of {', '.join(FORMS)} (default chinchilla)")
        command.add_argument("--axis", choices=tuple(AXES), help="axis of a one-axis form (default N)")
        for key, axis in AXES.items():
            derived = "; without --data-size D = C / (6 N)" if key == "C" else ""
            what = f"column of {key} (default {axis.column}){derived}"
            command.add_argument(f"--{axis.option.replace('_', '-')}", metavar="COL", help=what)
        command.add_argument("--loss", metavar="COL", help=f"column of the loss (default {LOSS_COLUMN})")
        command.add_argument("--drop-highest", type=int, default=0, metavar="K", help="leave out the K highest losses")
        command.add_argument("--objective", default="huber", help="huber, lad or least_squares (default huber)")
        command.add_argument(
            "--delta",
            type=float,
            help="Huber's delta in log loss (default 1e-3 from 100 runs on, below that 1.345 x the scatter)",
        )
        command.add_argument(
            "--bootstrap", type=int, default=DEFAULT_REPLICATES, metavar="B", help="refits (0: none, or at least 100)"
        )
        command.add_argument("--seed", type=_seed, default=0, help="of the bootstrap, at least 0")
        command.add_argument("--json", action="store_true", help="print fit.json instead of a summary")
        command.add_argument(
            "--out", help="fit: file for fit.json; report: folder (default STUDY/report, or NAME_report beside a file)"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
