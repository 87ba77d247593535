"""Everything a law says about where compute is best spent, as one result."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from analysis.compute.optimal import Frontier, frontier
from analysis.compute.parabolas import IsoFlop, isoflop
from analysis.compute.returns import DEFAULT_SHARE, Marginal, Saturation, marginal_values, saturation
from analysis.compute.shape import SHAPE_WEIGHTS, BestShape, best_shape, open_question, shape_budgets
from analysis.fitting import Law
from scaling.errors import ConfigError

NOTABLE_DRIFT = 0.03
"""Departure of the runs' own powers of N and D in C from 1 from which a report says what it changes."""


@dataclass(frozen=True)
class Decisions:
    """What the form's axes allow: a frontier and IsoFLOPs for N and D, shapes for width, depth and D.

    `open_question`: what a law of N alone leaves open about width and depth, None where nothing is.
    """

    law: Law
    frontier: Frontier | None
    isoflop: IsoFlop | None
    shapes: tuple[BestShape, ...]
    saturations: tuple[Saturation, ...]
    marginals: tuple[Marginal, ...]
    open_question: str | None


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
        open_question(law),
    )
