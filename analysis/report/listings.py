"""What a page lists in full: every run, every row left out, every convention."""

import re
from typing import Any

import numpy as np

from analysis.fitting import Law
from analysis.report.sections import Cell, Section, Table, number_cell, plain
from analysis.study import Results, conventions
from analysis.tables import Excluded
from analysis.texts import count_text

RUN_COLUMNS = {
    "model": "model",
    "width": "width",
    "depth": "depth",
    "seed": "seed",
    "steps": "steps",
    "test_energy_mae_ev_per_atom": "energy MAE (meV/atom)",
    "test_force_mae_ev_per_ang": "force MAE (meV/Å)",
    "wall_s": "wall (s)",
}
FURTHER_TESTS = re.compile(r"test_\w+_mae_\w+")
IN_THOUSANDTHS = ("test_energy_mae_ev_per_atom", "test_force_mae_ev_per_ang")


def runs_section(results: Results) -> Section:
    """The fitted runs with prediction, error, and the shift of each exponent without the run."""
    table, law = results.table, None if results.problem else results.law
    title = f"Runs ({len(table)} fitted)"
    if not len(table):
        return Section(title, plain("No run can be fitted."))
    axes = [axis for axis in dict.fromkeys((*(law.form.axes if law else ()), "N", "D")) if axis in table.sizes]
    further = [column for column in table.frame if FURTHER_TESTS.fullmatch(str(column)) and column not in RUN_COLUMNS]
    names = {**RUN_COLUMNS, **{column: column.replace("_", " ") for column in further}}
    names = {column: name for column, name in names.items() if column in table.frame and column not in axes}
    columns: dict[str, list[str | Cell]] = {"run": list(table.run)}
    columns |= {axis: [_size(float(size)) for size in table.axis(axis)] for axis in axes}
    for column, name in names.items():
        factor = 1000 if column in IN_THOUSANDTHS else 1
        columns[name] = [number_cell(_times(value, factor), ".4g") for value in table.frame[column]]
    columns[table.columns["loss"]] = [number_cell(loss, ".4g") for loss in table.loss]
    if law:
        columns |= _of_law(results, law)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Section(title, tables=[Table(list(columns), rows)])


def excluded_section(rows: tuple[Excluded, ...], title: str = "Excluded") -> Section:
    """The rows that were not fitted, with reasons."""
    title = f"{title} ({len(rows)})"
    if not rows:
        return Section(title, plain("None: every row of the table was fitted."))
    return Section(title, tables=[Table(["run", "reason"], [[row.run, row.reason] for row in rows])])


def conventions_section(results: Results) -> Section:
    """Without which the numbers mean nothing."""
    if results.problem:
        return Section("Conventions")
    terms = {name.replace("_", " "): sentence for name, sentence in conventions(results.law).items()}
    terms["exclusions"] = f"{len(results.table.excluded)} rows; reasons above. n = {len(results.table)}."
    terms["source"] = f"{results.table.source}."
    return Section("Conventions", terms=terms)


def _of_law(results: Results, law: Law) -> dict[str, list[str | Cell]]:
    predicted, off = law.predict(**results.table.sizes), 100 * np.expm1(law.residuals)
    columns: dict[str, list[str | Cell]] = {
        "predicted": [number_cell(loss, ".4g") for loss in predicted],
        "off by (%)": [number_cell(percent, "+.1f") for percent in off],
    }
    exponents = [parameter.name for parameter in law.form.parameters if parameter.kind == "exponent"]
    for name in [name for name in exponents if name in results.shifts]:
        columns[f"shift of {name} without it"] = [number_cell(shift, "+.3f") for shift in results.shifts[name]]
    return columns


def _times(value: Any, factor: int) -> Any:
    return value if value is None or isinstance(value, str) else value * factor


def _size(size: float) -> str | Cell:
    return Cell(count_text(size), size) if np.isfinite(size) else number_cell(None, "")
