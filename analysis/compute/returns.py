"""What more of one axis still buys: marginal values, and the size from which it buys next to nothing.

Legend of shapes: R thetas, P parameters, Q places.
"""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray, IntArray
from analysis.compute.allocation import REACH, TINY, Derived, falling_root, predict_each, slopes_along
from analysis.compute.cost import measure_cost
from analysis.compute.optimal import beyond_range, unusable
from analysis.fitting import Law
from analysis.tables import RunTable
from scaling.errors import ConfigError

DEFAULT_SHARE = 0.05
INFINITE_LOG = 1e4
"""log of a size taken as infinite: every power of it is below rounding."""
LARGEST_UNCENTRED = 600.0
"""The same for an axis that a form takes as it is: its exponential must be a number."""
FREE = 0.1
"""Per cent of device-hours for one per cent of size below which more of an axis is said to cost no time."""


@dataclass(frozen=True)
class Saturation:
    """The size of `axis` beyond which any further growth lowers the loss by less than `share` in all.

    Attributes:
        given: (Q,) sizes of the other axis; empty for a law of one axis.
        size: (Q,); at the ends of REACH, where it says "farther than that".
        beyond: (Q,) factor outside the sampled range, 1 inside.
        problems: why the number must not be used.
    """

    law: Law
    axis: str
    share: float
    other: str | None
    given: FloatArray
    size: Derived
    beyond: FloatArray
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Marginal:
    """The value of more of one axis at a place.

    Attributes:
        at: the sizes of the place.
        elasticity: -d log L / d log axis: per cent of loss for one per cent of size.
        left: share of the loss that an infinite size of this axis would take away.
        hours_exponent: d log device-hours / d log axis there, by the cost model; None if the runs do not determine it.
        per_hours: per cent of loss for one per cent more device-hours spent on this axis.
        per_hour: fall of log loss for one more device-hour spent so; None where more costs no time.
        problems: why the numbers must not be used.
    """

    axis: str
    at: dict[str, float]
    elasticity: Derived
    left: Derived
    hours_exponent: float | None
    per_hours: Derived | None
    per_hour: Derived | None
    problems: tuple[str, ...]


def saturation(
    law: Law, axis: str = "N", *, share: float = DEFAULT_SHARE, given: FloatArray | None = None
) -> Saturation:
    """The size S of `axis` with L(infinity) = (1 - share) L(S): for chinchilla, where its term is `share` of the loss.

    Args:
        given: (Q,) sizes of the other axis; its largest sampled one by default.
    Raises:
        ConfigError: if the law has no such axis, or share is outside (0, 1).
    """
    _require_axis(law, axis)
    if not 0 < share < 1:
        raise ConfigError(f"share={share} must be between 0 and 1, e.g. {DEFAULT_SHARE}")
    other = next((name for name in law.form.axes if name in ("N", "D") and name != axis), None)
    places = np.array([np.nan]) if other is None else np.atleast_1d(_or_largest(law.table, other, given))
    own = law.table.axis(axis)
    ends = np.log(own.min() / REACH), np.log(own.max() * REACH)

    def log_size(theta: FloatArray, which: IntArray) -> FloatArray:
        """(R,) where the loss of each theta at its own place is saturated."""
        fixed = _fixed(law, axis) | ({other: np.log(places[which, None])} if other else {})
        least = _at_infinity(law, theta, axis, fixed)

        def odds(place: FloatArray) -> FloatArray:
            """Of a power term against the rest: a straight line in log size."""
            above = predict_each(law, theta, {**fixed, axis: place}) - least
            return np.asarray(np.log(np.maximum(above, TINY)) - np.log(np.maximum(least * share / (1 - share), TINY)))

        low, high = (np.full((len(theta), 1), end) for end in ends)
        return falling_root(odds, low, high)[:, 0]

    size = Derived.of(law, log_size, len(places)).map(np.exp)
    problems = unusable(law, _exponents(law, axis))
    return Saturation(law, axis, share, other, places, size, beyond_range(size.value, own), problems)


def marginal_values(law: Law, **sizes: float) -> tuple[Marginal, ...]:
    """What one per cent more of each axis buys at a place; by default at the largest sampled size of every axis.

    Device-hours are those of the cost model (`analysis.compute.cost`), where the table has them.
    """
    at = {axis: float(_or_largest(law.table, axis, sizes.get(axis))) for axis in law.form.axes}
    logs = {axis: np.log([[size]]) for axis, size in at.items()}
    hours = measure_cost(law.table, law.form.axes).hours

    def values(theta: FloatArray) -> FloatArray:
        """(R, 2 A) the elasticities, then what is left to gain."""
        loss = predict_each(law, theta, logs)
        slopes = slopes_along(law, theta, law.form.axes, logs)
        return np.hstack(
            [
                *[-slope for slope in slopes.values()],
                *[1 - _at_infinity(law, theta, axis, logs) / loss for axis in law.form.axes],
            ]
        )

    each = Derived.of(law, lambda theta, which: values(theta)[np.arange(len(theta)), which], 2 * len(at))
    found = []
    for i, axis in enumerate(law.form.axes):
        elasticity, left = each.at(i), each.at(len(at) + i)
        power = None if hours is None else hours.elasticity(axis, at)
        per_hours = per_hour = None
        if hours is not None and power is not None and power > FREE:
            per_hours = elasticity.times(1 / power)
            per_hour = per_hours.times(1 / float(hours(at)[0]))
        problems = unusable(law, _exponents(law, axis))
        found.append(Marginal(axis, at, elasticity, left, power, per_hours, per_hour, problems))
    return tuple(found)


def _exponents(law: Law, axis: str) -> list[str]:
    return [parameter.name for parameter in law.form.parameters if axis in parameter.axes]


def _fixed(law: Law, axis: str) -> dict[str, FloatArray]:
    """Log sizes of the axes besides `axis`, at their largest; epochs, a repetition, at their median."""
    table = law.table
    others = [name for name in law.form.axes if name != axis]
    return {
        name: np.log([[np.median(table.axis(name)) if name == "epochs" else table.axis(name).max()]]) for name in others
    }


def _at_infinity(law: Law, theta: FloatArray, axis: str, logs: dict[str, FloatArray]) -> FloatArray:
    infinite = LARGEST_UNCENTRED if axis in law.form.uncentred else INFINITE_LOG
    return predict_each(law, theta, {**logs, axis: np.array([[infinite]])})


def _or_largest(table: RunTable, axis: str, given: FloatArray | float | None) -> FloatArray:
    if given is None:
        return np.asarray(np.median(table.axis(axis)) if axis == "epochs" else table.axis(axis).max())
    if not (np.asarray(given) > 0).all():
        raise ConfigError(f"{axis}={given} must be positive")
    return np.asarray(given, dtype=float)


def _require_axis(law: Law, axis: str) -> None:
    if axis not in law.form.axes:
        raise ConfigError(f"form {law.form.name} has no axis {axis}; it has {', '.join(law.form.axes)}")
