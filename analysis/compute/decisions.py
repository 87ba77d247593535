"""Everything a law says about where compute is best spent, as one result, as data and as text."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.compute.allocation import Derived
from analysis.compute.cost import FlopsRule
from analysis.compute.optimal import Frontier, frontier, unusable
from analysis.compute.parabolas import IsoFlop, isoflop
from analysis.compute.returns import DEFAULT_SHARE, Marginal, Saturation, marginal_values, saturation
from analysis.compute.shape import SHAPE_WEIGHTS, BestShape, best_shape, shape_budgets, untold_shape
from analysis.fitting.law import Law
from analysis.texts import size_text
from scaling.errors import ConfigError

NOTABLE_DRIFT = 0.03
"""Departure of the runs' own powers of N and D in C from 1 from which a reader is told what it changes."""


@dataclass(frozen=True)
class Decisions:
    """What the form's axes allow: a frontier and IsoFLOPs for N and D, shapes for width, depth and D."""

    law: Law
    frontier: Frontier | None
    isoflop: IsoFlop | None
    shapes: tuple[BestShape, ...]
    saturations: tuple[Saturation, ...]
    marginals: tuple[Marginal, ...]
    untold: str | None


def decide(
    law: Law, budgets: ArrayLike | None = None, *, flops_per_nd: float | None = None, share: float = DEFAULT_SHARE
) -> Decisions:
    """Every decision that the law allows; see `frontier`, `isoflop`, `best_shape`, `saturation`, `marginal_values`.

    Raises:
        ConfigError: if budgets or flops_per_nd are given for a law without both N and D (or width, depth and D).
    """
    axes = set(law.form.axes)
    both, shaped = {"N", "D"} <= axes, axes == {*SHAPE_WEIGHTS, "D"}
    if not both and (flops_per_nd is not None or (budgets is not None and not shaped)):
        frontier(law, budgets, flops_per_nd=flops_per_nd)  # says what is missing
        raise ConfigError(f"form {law.form.name} takes its cost from the table")
    shapes: tuple[BestShape, ...] = ()
    if shaped:
        shapes = (best_shape(law), best_shape(law, budgets=shape_budgets(law) if budgets is None else budgets))
    return Decisions(
        law,
        frontier(law, budgets, flops_per_nd=flops_per_nd) if both else None,
        isoflop(law, flops_per_nd=flops_per_nd) if both else None,
        shapes,
        tuple(saturation(law, axis, share=share) for axis in law.form.axes if axis in ("N", "D")),
        marginal_values(law),
        untold_shape(law),
    )


def decisions_document(decisions: Decisions) -> dict[str, Any]:
    """The decisions as data; what follows from the law with its 95 % interval, what is unusable with its problems."""
    law = decisions.law
    return {
        "form": law.form.name,
        "formula": law.form.formula,
        "n": len(law.table),
        "cautions": list(law.cautions),
        "frontier": _frontier_document(decisions.frontier) if decisions.frontier else None,
        "isoflop": _isoflop_document(decisions.isoflop) if decisions.isoflop else None,
        "shapes": [_shape_document(shape) for shape in decisions.shapes],
        "shape_not_told": decisions.untold,
        "saturation": [
            {
                "axis": found.axis,
                "share": found.share,
                "given_axis": found.other,
                "given": found.given.tolist() if found.other else None,
                "size": _number(found.size),
                "beyond_sampled": found.beyond.tolist(),
                "problems": list(found.problems),
            }
            for found in decisions.saturations
        ],
        "marginal": [
            {
                "axis": found.axis,
                "at": found.at,
                "elasticity": _number(found.elasticity),
                "left_to_gain": _number(found.left),
                "device_hours_exponent": found.hours_exponent,
                "per_cent_per_cent_of_device_hours": _number(found.per_hours),
                "log_loss_per_device_hour": _number(found.per_hour),
                "problems": list(found.problems),
            }
            for found in decisions.marginals
        ],
    }


def _number(found: Derived | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value.tolist(), "ci95": None if found.ci95 is None else found.ci95.tolist()}


def _cost_document(cost: FlopsRule) -> dict[str, Any]:
    return {
        "statement": cost.statement,
        "flops_per_nd": cost.flops_per_nd,
        "flops_per_param_sample": cost.flops_per_param_sample,
        "epochs": cost.epochs,
        "spread_90": cost.spread,
        "powers_of_n_and_d": cost.powers,
        "cautions": list(cost.cautions),
    }


def _frontier_document(found: Frontier) -> dict[str, Any]:
    return {
        "cost": _cost_document(found.cost),
        "usable": not found.problems,
        "problems": list(found.problems),
        "cautions": list(found.cautions),
        "budgets": found.budgets.tolist(),
        "num_params": _number(found.num_params),
        "data_size": _number(found.data_size),
        "data_per_param": _number(found.ratio),
        "loss": _number(found.loss),
        "gain_of_twice_the_compute": _number(found.gain),
        "exponent_n": _number(found.exponent_n),
        "exponent_d": _number(found.exponent_d),
        "exponent_n_at_measured_powers": _number(found.exponent_own),
        "beyond_sampled": {axis: factor.tolist() for axis, factor in found.beyond.items()},
    }


def _isoflop_document(found: IsoFlop) -> dict[str, Any]:
    return {
        "budgets": [
            {
                "budget": parabola.budget,
                "runs": [found.law.table.run[row] for row in parabola.rows],
                "num_params": _number(parabola.num_params),
                "loss": parabola.loss,
            }
            for parabola in found.parabolas
        ],
        "left_out": [vars(left) for left in found.left_out],
        "exponent_n": _number(found.exponent),
        "surface_usable": not unusable(found.law),
        "exponent_n_on_noiseless_surface": _number(found.on_surface),
        "exponent_n_of_surface": _number(found.surface),
        "bias_of_exponent": _number(found.bias),
        "bias_factor_of_num_params_at_largest_budget": _number(found.size_bias),
    }


def _shape_document(found: BestShape) -> dict[str, Any]:
    return {
        "of": found.of,
        "budgets": found.budgets.tolist(),
        "usable": not found.problems,
        "problems": list(found.problems),
        "params_per_depth_width2": found.rule.params_per_unit,
        "params_per_depth_width2_spread_90": found.rule.spread,
        "powers_of_width_and_depth": found.rule.powers,
        "cost": _cost_document(found.cost) if found.cost else None,
        "width": _number(found.width),
        "depth": _number(found.depth),
        "depth_per_width": _number(found.aspect),
        "data_size": _number(found.data_size),
        "loss": _number(found.loss),
        "beyond_sampled": {axis: factor.tolist() for axis, factor in found.beyond.items()},
    }


@dataclass(frozen=True)
class TextTable:
    """A table among lines of text."""

    head: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        widths = np.array([[len(cell) for cell in row] for row in [self.head, *self.rows]]).max(0)
        lines = [
            "  ".join(cell.rjust(n) for cell, n in zip(row, widths, strict=True)) for row in [self.head, *self.rows]
        ]
        return "\n".join(f"  {line}" for line in lines)


def decisions_text(decisions: Decisions) -> str:
    """The decisions for a reader at a terminal; verdicts in place of numbers that must not be used."""
    return "\n".join(map(str, decisions_lines(decisions)))


def decisions_lines(decisions: Decisions) -> list[str | TextTable]:
    """The lines of `decisions_text`: a heading, indented sentences and tables, an empty line, the next heading."""
    law = decisions.law
    lines: list[str | TextTable] = [
        f"L = {law.form.formula}   ({len(law.table)} runs; 95 % intervals in brackets, those of the law alone)"
    ]
    if decisions.frontier:
        lines += _frontier_lines(decisions.frontier)
    else:
        lines += [f"Caution. {caution}" for caution in law.cautions]
    if not decisions.frontier and not decisions.shapes:
        lines += ["", "No compute-optimal sizes: they need a form with N and D, e.g. --form chinchilla."]
    if decisions.isoflop:
        lines += _isoflop_lines(decisions.isoflop, with_surface=not unusable(law))
    for shape in decisions.shapes:
        lines += _shape_lines(shape)
    lines += ["", "What more still buys"]
    for found in decisions.saturations:
        lines += _saturation_lines(found)
    lines += [f"  {_marginal_line(found)}" for found in decisions.marginals]
    return lines + (["", decisions.untold] if decisions.untold else [])


def _frontier_lines(found: Frontier) -> list[str | TextTable]:
    lines: list[str | TextTable] = ["", "Compute-optimal sizes", f"  {found.cost.statement}"]
    if found.problems:
        lines += ["  None can be told from these runs:", *[f"  - {problem}" for problem in found.problems]]
        if found.problems == (found.cost.problem,):
            lines.append("  --flops-per-nd K asks what the law implies for another cost, C = K N D.")
    lines += [f"  Caution. {caution}" for caution in found.cautions]
    if found.problems:
        return lines
    a, b, powers = found.exponent_n, found.exponent_d, found.cost.powers
    lines.append(f"  N* ~ C^a, D* ~ C^b with a = {_text(a, '.3f')}, b = {_text(b, '.3f')}")
    if found.exponent_own and powers and max(abs(power - 1) for power in powers) > NOTABLE_DRIFT:
        lines.append(
            f"  Were C to grow as in these runs, N^{powers[0]:.2f} D^{powers[1]:.2f}, "
            f"a would be {_text(found.exponent_own, '.3f')}"
        )
    columns = {"N*": found.num_params, "D*": found.data_size, "D*/N*": found.ratio}
    rows = [
        [
            f"{budget:.3g}",
            *[_text(column.at(i)) for column in columns.values()],
            _text(found.loss.at(i), ".4g"),
            f"{_text(found.gain.at(i).times(100), '.1f')} %",
            ", ".join(f"{axis} {factor[i]:.3g}x" for axis, factor in found.beyond.items() if factor[i] > 1) or "-",
        ]
        for i, budget in enumerate(found.budgets)
    ]
    return [*lines, TextTable(["C (FLOPs)", *columns, "L*", "2 C lowers L* by", "beyond the runs"], rows)]


def _isoflop_lines(found: IsoFlop, *, with_surface: bool) -> list[str | TextTable]:
    """The parabolas; beside them the surface and the bias that it tells, where the surface itself may be used."""
    total = len(found.parabolas) + len(found.left_out)
    lines: list[str | TextTable] = ["", "IsoFLOP parabolas (approach 2 of Hoffmann et al. 2022), for comparison"]
    rows = [[f"{p.budget:.3g}", str(len(p.rows)), _text(p.num_params), f"{p.loss:.4g}"] for p in found.parabolas]
    lines += [TextTable(["C (FLOPs)", "runs", "N*", "loss"], rows)] if rows else []
    reasons: dict[str, list[str]] = {}
    for left in found.left_out:
        reasons.setdefault(left.reason, []).append(f"{left.budget:.3g}")
    for reason, budgets in reasons.items():
        which = ", ".join(budgets) if len(budgets) < 6 else f"{len(budgets)} from {budgets[0]} to {budgets[-1]}"
        lines.append(f"  left out, {which}: {reason}")
    if not (found.exponent and found.on_surface and found.surface and found.bias and found.size_bias):
        return [*lines, f"  no power law of N*: {len(found.parabolas)} of {total} budgets have an optimum of their own"]
    exponent = f"  a = {_text(found.exponent, '.3f')} through {len(found.parabolas)} budgets"
    if not with_surface:
        return [*lines, exponent, "  Its bias cannot be told: the surface that would tell it is not determined."]
    return [
        *lines,
        f"{exponent}; the surface over the same budgets: {_text(found.surface, '.3f')}",
        f"  Its bias on this grid: on noiseless losses of the surface at these very runs it gives "
        f"{_text(found.on_surface, '.3f')}, {_text(found.bias, '+.3f')} off, and an N* "
        f"{_text(found.size_bias, '.2f')} times the surface's at {found.parabolas[-1].budget:.3g} FLOPs",
    ]


def _shape_lines(found: BestShape) -> list[str | TextTable]:
    rule, of_n = found.rule, found.of == "N"
    given = f"given N, D = {size_text(float(found.data_size.value[0]))}" if of_n else "given FLOPs, D free"
    low, high = rule.spread
    lines: list[str | TextTable] = ["", f"Best width and depth at {given}"]
    lines.append(
        f"  N = {rule.params_per_unit:.3g} depth width^2, the median ({low:.3g} to {high:.3g} in 90 % of the runs)"
    )
    lines += [f"  {found.cost.statement}"] if found.cost else []
    if found.problems:
        return [*lines, "  None can be told from these runs:", *[f"  - {problem}" for problem in found.problems]]
    columns = {"width": found.width, "depth": found.depth, "depth/width": found.aspect}
    columns |= {} if of_n else {"D*": found.data_size}
    rows = [
        [
            size_text(float(budget)) if of_n else f"{budget:.3g}",
            *[_text(column.at(i)) for column in columns.values()],
            _text(found.loss.at(i), ".4g"),
            ", ".join(
                f"{axis} {factor[i]:.3g}x" for axis, factor in found.beyond.items() if factor[i] > 1 and axis in columns
            )
            or "-",
        ]
        for i, budget in enumerate(found.budgets)
    ]
    return [*lines, TextTable(["N" if of_n else "C (FLOPs)", *columns, "L*", "beyond the runs"], rows)]


def _saturation_lines(found: Saturation) -> list[str]:
    lines = []
    for i in range(len(found.size.value)):
        where = f" at {found.other} = {size_text(float(found.given[i]))}" if found.other else ""
        if not found.other and len(found.law.form.axes) > 1:
            where = f" at the largest {' and '.join(axis for axis in found.law.form.axes if axis != found.axis)}"
        start = f"  {found.axis} saturates{where}"
        if found.problems:
            lines.append(f"{start} at no size that can be told: {'; '.join(found.problems)}")
            continue
        factor = found.beyond[i]
        beyond = f", {factor:.3g}x beyond the runs" if factor > 1 else ""
        lines.append(
            f"{start} at {_text(found.size.at(i))}{beyond}: an unlimited {found.axis} would lower the loss "
            f"by {100 * found.share:g} % more"
        )
    return lines


def _marginal_line(found: Marginal) -> str:
    at = ", ".join(f"{axis} = {size_text(size)}" for axis, size in found.at.items())
    if found.problems:
        return f"the value of more {found.axis} cannot be told: {'; '.join(found.problems)}"
    percent = found.left.times(100)
    line = (
        f"1 % more {found.axis} at {at} lowers the loss by {_text(found.elasticity, '.2g')} %; an unlimited "
        f"{found.axis} by {_text(percent, '.2g')} %"
    )
    if found.hours_exponent is None:
        return line
    cost = f"device-hours go as {found.axis}^{found.hours_exponent:.2f} there"
    if found.per_hours is None:
        return f"{line}; {cost}, so more of it costs next to no time"
    return f"{line}; {cost}, so 1 % more hours spent on it buy {_text(found.per_hours, '.2g')} %"


def _text(found: Derived, digits: str | None = None) -> str:
    def write(value: float) -> str:
        if digits is not None:
            return format(float(value), digits)
        return size_text(float(value))

    if found.ci95 is None:
        return write(float(found.value))
    return f"{write(float(found.value))} [{write(found.ci95[0])}, {write(found.ci95[1])}]"
