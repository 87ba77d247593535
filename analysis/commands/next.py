"""`python -m analysis next TABLE`: which runs to make next."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands.options import add_fit, add_table, check_folder, read_law
from analysis.design import NextRuns, Plan, next_runs
from analysis.study import strict
from analysis.tables import AXES, read_frame

HELP = "which further runs narrow a prediction's interval most for their cost"
TARGET_OPTIONS = {axis: f"at_{spec.option}" for axis, spec in AXES.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table(parser)
    add_fit(parser)
    parser.add_argument("--target", default="loss", help="loss, an exponent (alpha, beta, ...) or N* (default loss)")
    for axis, option in TARGET_OPTIONS.items():
        meaning = f"{axis} of the predicted loss, or C of N*" if axis == "C" else f"{axis} of the predicted loss"
        meaning += " (default 10 x the largest sampled)" if axis in ("N", "D") else ""
        parser.add_argument(f"--{option.replace('_', '-')}", type=float, metavar="X", help=meaning)
    parser.add_argument(
        "--budget",
        type=float,
        help="device-hours, or FLOPs where the table has no device_hours (default: as much as "
        "--count runs of the next larger model)",
    )
    parser.add_argument("--flops-per-nd", type=float, metavar="K", help="C = K N D, as of frontier (default: measured)")
    parser.add_argument("--count", type=int, default=5, help="most runs (default 5)")
    parser.add_argument("--candidates", metavar="FILE", help="table of the runs to choose from (default: the own grid)")
    parser.add_argument("--json", action="store_true", help="print the advice as JSON")
    parser.add_argument("--figures", metavar="DIR", help="also write next_map and next_width as PNG and SVG here")


def run(options: argparse.Namespace) -> None:
    """Fit, choose, print."""
    if options.figures:
        check_folder("--figures", Path(options.figures))
    law = read_law(options)
    given = {axis: getattr(options, option) for axis, option in TARGET_OPTIONS.items()}
    sizes = {axis: value for axis, value in given.items() if value is not None}
    compute = sizes.pop("C", None) if options.target == "N*" else None
    result = next_runs(
        law,
        read_frame(options.candidates)[0] if options.candidates else None,
        target=options.target,
        compute=compute,
        budget=options.budget,
        count=options.count,
        flops_per_nd=options.flops_per_nd,
        **sizes,
    )
    if options.figures:
        _write_figures(result, Path(options.figures))
    print(json.dumps(strict(next_document(result)), indent=2) if options.json else _summary(result))


def next_document(result: NextRuns) -> dict[str, Any]:
    """The advice as data; losses and N* are given as such, their widths as logarithms."""
    back = np.exp if result.target.is_log else np.asarray

    def plan(one: Plan) -> dict[str, Any]:
        runs = [
            {
                "sizes": dict(run.sizes),
                "words": run.words,
                "cost": run.cost,
                "width_after": run.width,
                "ci95_after": back(run.ci95).tolist(),
            }
            for run in one.runs
        ]
        return {"name": one.name, "cost": one.cost, "width_after": one.runs[-1].width, "runs": runs}

    return {
        "form": result.law.form.name,
        "target": {"name": result.target.name, "sizes": dict(result.target.sizes), "compute": result.target.compute},
        "estimate": float(back(result.estimate)),
        "ci95": back(result.ci95).tolist(),
        "width": result.width,
        "width_unit": f"95 % interval of {result.target.name}",
        "cost_unit": result.cost.unit,
        "cost_model": result.cost.sentence,
        "budget": result.budget,
        "recommended": plan(result.recommended),
        "alternatives": [plan(one) for one in result.alternatives],
        "num_candidates": len(result.candidates),
        "warnings": list(result.warnings),
    }


def _summary(result: NextRuns) -> str:
    """A table to act on."""
    axes = result.law.form.axes
    back = np.exp if result.target.is_log else np.asarray
    name = _target_text(result)
    rows = [["", *axes, result.cost.unit, f"{name} (95 %)", "width", "what"]]
    rows.append(["now", *[""] * len(axes), "", _interval(back(result.ci95)), _width(result, result.width), ""])
    for place, one in enumerate(result.recommended.runs, start=1):
        sizes = [f"{one.sizes[axis]:.4g}" for axis in axes]
        shown = _interval(back(one.ci95)), _width(result, one.width)
        rows.append([str(place), *sizes, f"{one.cost:.3g}", *shown, one.words])
    lines = [f"What to run next, to know {name}: {float(back(result.estimate)):.4g}", *_table(rows), ""]
    end = result.recommended.runs[-1]
    rows = [["for the same budget", "runs", result.cost.unit, "width after"]]
    rows.append(
        ["recommended", str(len(result.recommended.runs)), f"{result.recommended.cost:.3g}", _width(result, end.width)]
    )
    for plan in result.alternatives:
        rows.append([plan.name, str(len(plan.runs)), f"{plan.cost:.3g}", _width(result, plan.runs[-1].width)])
    lines += [*_table(rows), "", f"Budget {result.budget:.3g} {result.cost.unit}. Cost: {result.cost.sentence}."]
    if result.target.kind == "N*":
        lines.append(f"N* divides compute by {result.target.cost.statement}")
    lines.append("Widths after are expected ones, to first order and if the form holds; refit after every run.")
    return "\n".join([*lines, *(f"Warning: {warning}." for warning in result.warnings)])


def _target_text(result: NextRuns) -> str:
    target = result.target
    if target.kind == "loss":
        return f"the loss at {', '.join(f'{axis} = {size:.3g}' for axis, size in target.sizes.items())}"
    return f"N* at C = {target.compute:.3g}" if target.kind == "N*" else target.name


def _interval(ends: Any) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _width(result: NextRuns, width: float) -> str:
    """Of a logarithm as a factor between the ends."""
    return f"x {np.exp(width):.3f}" if result.target.is_log else f"{width:.3f}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _write_figures(result: NextRuns, folder: Path) -> None:
    from analysis.plots import plot_next_map, plot_next_width, save_bytes

    folder.mkdir(parents=True, exist_ok=True)
    figures = {"next_width": plot_next_width(result)}
    if len(result.law.form.axes) == 2:
        figures["next_map"] = plot_next_map(result)
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            (folder / f"{name}.{kind}").write_bytes(save_bytes(figure, kind, name))
