"""How far to trust a law: runs held out, other forms, in sections."""

from analysis.report.sections import Cell, Section, Table, number_cell, plain
from analysis.selection import HeldOut
from analysis.study import TRUST, Results
from analysis.texts import size_text

HELD_OUT = [
    "held out",
    "runs",
    "fitted to",
    "error of held-out runs",
    "residuals of fitted runs",
    "in 95 % interval",
    "",
]


def trust_section(results: Results) -> Section:
    """Whether the law would have predicted the largest runs, and whether another form would have done better."""
    if results.problem or not results.backtests:
        return Section(TRUST, figures=TRUST)
    return Section(TRUST, parts=[backtest_section(results), _comparison(results)], figures=TRUST)


def backtest_section(results: Results) -> Section:
    """The law fitted without the largest runs along each axis."""
    table = Table(HELD_OUT, [_held_out(test) for test in results.backtests]).without_empty_end()
    title = "Backtest: would it have predicted the largest runs?"
    return Section(title, plain("Errors are root mean squares of log loss."), [table])


def _held_out(test: HeldOut) -> list[str | Cell]:
    name = f"{test.axis} ≥ {size_text(test.size)}"
    if test.law is None or test.rmse is None or test.rmse_fitted is None or test.coverage is None:
        return [name, *["–"] * 5, f"no fit: {test.problem}"]
    counts = [number_cell(len(test.runs), ".0f"), number_cell(len(test.law.table), ".0f")]
    shares = [(test.rmse, ".1f"), (test.rmse_fitted, ".1f"), (test.coverage, ".0f")]
    return [name, *counts, *[Cell(f"{100 * share:{style}} %", 100 * share) for share, style in shares], ""]


def _comparison(results: Results) -> Section:
    found = results.comparison
    if isinstance(found, str):
        return Section("Other forms", plain(f"Not compared: {found}"))
    rows = [
        [
            one.name,
            number_cell(one.rmse if one.scores else None, ".3f"),
            number_cell(None if one.coverage is None else 100 * one.coverage, ".0f"),
            "; ".join(one.reasons),
        ]
        for one in found.contenders
    ]
    rows += [[one.name, number_cell(one.rmse, ".3f"), number_cell(None, ""), "needs no law"] for one in found.plain]
    header = ["form", "error on larger runs", "inside 95 % interval (%)", "why it is not the chosen one"]
    note = "Errors are root mean squares of log loss, the mean over the places where the table was cut."
    title = "Other forms, by their predictions of larger runs"
    return Section(title, plain(found.verdict, note), [Table(header, rows)])
