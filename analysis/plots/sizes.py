"""Axes and legends of sizes: what stands on an axis, which runs share a colour, which a marker."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arrays import FloatArray
from analysis.plots.style import MARKERS, MUTED, log_axis, shades
from analysis.tables import RunTable, distinct_sizes, same_size
from analysis.texts import count_text, power_text, size_text

MOST_LINES = 8  # sizes that get a line of their own; more are shown by a few representative lines
LEGEND_LETTERS = 60  # letters of a legend that stand side by side
HANDLE_LETTERS = 4.8  # room that a legend's line and gaps take, in letters
DOT: Any = {"ms": 6.5, "mec": "white", "mew": 0.8}

AXIS_NAMES = {
    "num_params": "parameters N",
    "num_params_trunk": "backbone parameters N",
    "num_params_embedding": "embedding parameters N",
    "num_params_head": "head parameters N",
    "train_structures": "training structures D",
    "train_atoms": "training atoms D",
    "train_edges": "training edges D",
    "samples_seen": "structures seen D",
    "train_flops": "training FLOPs C",
    "width": "width",
    "depth": "depth",
    "epochs": "epochs",
}


def axis_name(table: RunTable, axis: str) -> str:
    """What stands on an axis."""
    column = table.columns[axis]
    return AXIS_NAMES.get(column, f"{axis} = {column}")


def loss_name(table: RunTable) -> str:
    """What the loss is called."""
    return table.columns["loss"].replace("_", " ")


def greek(name: str) -> str:
    """An exponent or the floor as a title."""
    return {"alpha": "α, exponent of N", "beta": "β, exponent of D", "E": "E, floor"}.get(name, name)


def size_axis(axes: Axes, table: RunTable, axis: str, limits: tuple[float, float], *, most: int = 7) -> None:
    """A horizontal logarithmic axis of sizes; few widths or depths are ticked as they are."""
    if axis == "C":
        log_axis(axes, "x", *limits, power_text, most=min(most, 4))
        return
    log_axis(axes, "x", *limits, size_text, most=most)
    sizes = distinct_sizes(table.axis(axis))
    if axis in ("width", "depth") and len(sizes) <= most:
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])


def size_groups(table: RunTable, axis: str | None) -> tuple[list[np.ndarray], FloatArray]:
    """Masks of the runs that share a colour, and the size each colour's line is drawn at."""
    if axis is None:
        return [np.ones(len(table), dtype=bool)], np.array([np.nan])
    sizes = table.axis(axis)
    lines = distinct_sizes(sizes)
    if len(lines) <= MOST_LINES:
        return [same_size(sizes, size) for size in lines], lines
    lines = np.geomspace(lines[0], lines[-1], 5)
    nearest = np.abs(np.log(sizes[:, None] / lines)).argmin(1)
    return [nearest == index for index in range(len(lines))], lines


def depth_markers(table: RunTable) -> list[tuple[np.ndarray, str]]:
    """Masks and markers of the runs by depth; one marker where depth does not vary."""
    return [(mask, marker) for _, mask, marker in depth_groups(table)]


def depth_groups(table: RunTable) -> list[tuple[str, np.ndarray, str]]:
    """Name, mask and marker of the runs of each depth; one without a name where depth does not vary."""
    if "depth" not in table.frame or table.frame["depth"].nunique() < 2:
        return [("", np.ones(len(table), dtype=bool), MARKERS[0])]
    depths = table.frame["depth"].to_numpy()
    pairs = zip(sorted(set(depths)), MARKERS, strict=False)
    return [(f"depth {depth:g}", np.asarray(depths == depth), marker) for depth, marker in pairs]


def size_legend(figure: Figure, table: RunTable, axis: str | None, *, brief: bool = False) -> None:
    """What the colours (sizes along an axis) and markers (depths) stand for; `brief`: sizes without their widths."""
    lines = size_groups(table, axis)[1]
    colors = shades(len(lines))
    if axis is None:
        depth_legend(figure, table, colors[0])
        return
    exact = len(distinct_sizes(table.axis(axis))) <= MOST_LINES
    entries = [
        Line2D(
            [],
            [],
            color=color,
            marker="o" if exact or brief else "",
            ms=6,
            label=count_text(size) if brief else _line_text(table, axis, size),
        )
        for size, color in zip(lines, colors, strict=True)
    ]
    entries += [Line2D([], [], color=MUTED, marker=m, ls="", label=text) for text, _, m in depth_groups(table) if text]
    columns = legend_columns([str(entry.get_label()) for entry in entries])
    title = axis_name(table, axis) + ("" if exact else " (runs take the nearest size's colour)")
    figure.legend(handles=entries, title=title, loc="outside lower center", ncols=columns)


def depth_legend(figure: Figure, table: RunTable, color: str) -> None:
    """What the markers stand for, where depth varies."""
    entries = [Line2D([], [], color=color, marker=m, ls="", label=text) for text, _, m in depth_groups(table) if text]
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))


def legend_columns(labels: list[str]) -> int:
    """As many columns as fit below a figure; labels fill one column after the other."""
    lengths = [len(label) + HANDLE_LETTERS for label in labels]
    for columns in range(min(len(labels), 6), 1, -1):
        if sum(part.max() for part in np.array_split(lengths, columns)) <= LEGEND_LETTERS:
            return columns
    return 1 if len(labels) == 1 else 2


def _line_text(table: RunTable, axis: str, size: float) -> str:
    """The size, with its width where the table knows it and the line stands for one model."""
    mask = same_size(table.axis(axis), size)
    if axis == "N" and "width" in table.frame and mask.any() and table.frame["width"][mask].nunique() == 1:
        width = f"width {table.frame['width'][mask].iloc[0]:g}"
        depth = f", depth {table.frame['depth'][mask].iloc[0]:g}" if len(depth_groups(table)) > 1 else ""
        return f"{count_text(size)} ({width}{depth})"
    return count_text(size)
