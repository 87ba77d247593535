"""Whether two laws differ beyond their uncertainty."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.fitting import LEVELS, Law
from analysis.texts import size_text

TOGETHER = 0.95
LOSS = "loss"
Estimated = tuple[float, tuple[float, float], bool]
"""An estimate, its interval, and whether the runs determine it."""


@dataclass(frozen=True)
class Contrast:
    """One quantity of two laws.

    Attributes:
        quantity: an exponent, or LOSS.
        at: the sizes of the loss, nothing for exponents.
        value: first less second; of losses the logarithm of first over second.
        level: of the interval, so that those of all contrasts hold together with `together`.
        undetermined: the laws, of the two, whose runs do not determine the quantity; it is then not compared.
    """

    quantity: str
    at: dict[str, float]
    first: str
    second: str
    value: float
    interval: tuple[float, float]
    level: float
    together: float
    undetermined: tuple[str, ...]

    @property
    def differs(self) -> bool | None:
        """Whether the interval leaves zero out; None where it is not determined."""
        return None if self.undetermined else not self.interval[0] <= 0 <= self.interval[1]

    @property
    def name(self) -> str:
        """What is compared."""
        where = ", ".join(f"{axis} = {size_text(size)}" for axis, size in self.at.items())
        return f"loss at {where}" if where else self.quantity

    @property
    def shown(self) -> tuple[float, float, float]:
        """Value and ends as they are read: a difference of exponents, a ratio of losses."""
        logs = np.array([self.value, *self.interval])
        with np.errstate(over="ignore"):
            value, low, high = np.exp(logs) if self.quantity == LOSS else logs
        return float(value), float(low), float(high)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        value, low, high = self.shown
        pair, what = f"{self.first} and {self.second}", f"{self.name} of {self.first}"
        if self.undetermined:
            which = " and ".join(self.undetermined)
            return f"{self.name} of {pair} cannot be compared: the runs of {which} do not determine it."
        if self.quantity == LOSS:
            ratio = f"{value:.3g} [{low:.3g}, {high:.3g}] times that of {self.second}"
            verdict = "" if self.differs else "; no difference is seen"
            return f"The {what} is {ratio}{verdict}."
        if self.differs:
            word = "larger" if value > 0 else "smaller"
            ends = sorted((abs(low), abs(high)))
            return f"{what} is {word} than that of {self.second}, by {abs(value):.3g} [{ends[0]:.3g}, {ends[1]:.3g}]."
        return (
            f"{self.name} of {pair} show no difference beyond their intervals: {value:+.3g} [{low:+.3g}, {high:+.3g}]."
        )

    @property
    def document(self) -> dict[str, Any]:
        """For fit.json."""
        value, low, high = self.shown
        return {
            "quantity": self.quantity,
            "at": self.at,
            "first": self.first,
            "second": self.second,
            "ratio" if self.quantity == LOSS else "difference": value,
            "interval": [low, high],
            "level": self.level,
            "differs": self.differs,
            "undetermined": list(self.undetermined),
        }


def contrasts(laws: Mapping[str, Law], sizes: Mapping[str, float] | None) -> tuple[Contrast, ...]:
    """Each exponent and, if `sizes` are given, the loss predicted there, of every two laws of one form.

    The level of each interval is raised so that all of them hold together with 95 % (Bonferroni), as far as levels go.
    """
    pairs = list(combinations(laws, 2))
    if not pairs:
        return ()
    exponents = [p.name for p in laws[pairs[0][0]].form.parameters if p.kind == "exponent"]
    read: dict[str, Callable[[Law, float], Estimated]] = {name: _reader(name) for name in exponents}
    if sizes:
        read[LOSS] = lambda law, level: _loss(law, sizes, level)
    count = len(pairs) * len(read)
    level = min(1 - (1 - TOGETHER) / count, LEVELS[1])
    found = []
    for quantity, one in read.items():
        estimates = {name: one(law, level) for name, law in laws.items()}
        at = dict(sizes or {}) if quantity == LOSS else {}
        for first, second in pairs:
            (a, ends_a, _), (b, ends_b, _) = estimates[first], estimates[second]
            between = difference_interval(a, ends_a, b, ends_b)
            together = 1 - count * (1 - level)
            undetermined = tuple(name for name in (first, second) if not estimates[name][2])
            found.append(Contrast(quantity, at, first, second, a - b, between, level, together, undetermined))
    return tuple(found)


def verdicts(found: tuple[Contrast, ...]) -> list[tuple[str, bool]]:
    """A sentence for each two that can be compared and whether they differ, then one for each that cannot."""
    compared = [(one.sentence, bool(one.differs)) for one in found if one.differs is not None]
    left_out = dict.fromkeys((one.name, name) for one in found for name in one.undetermined)
    why = "its runs do not determine it"
    return compared + [(f"{quantity} of {name} is not compared: {why}.", False) for quantity, name in left_out]


def difference_interval(
    a: float, ends_a: tuple[float, float], b: float, ends_b: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a - b from those of two independent estimates, of the same level; open ends are infinite.

    Source: MOVER, Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    down, up = max(a - ends_a[0], 0.0), max(ends_a[1] - a, 0.0)
    down_b, up_b = max(b - ends_b[0], 0.0), max(ends_b[1] - b, 0.0)
    return a - b - math.hypot(down, up_b), a - b + math.hypot(up, down_b)


def _reader(name: str) -> Callable[[Law, float], Estimated]:
    def read(law: Law, level: float) -> Estimated:
        found = law.interval(name, level)
        identified = next(one.identified for one in law.verdicts if one.exponent == name)
        return law[name].value, (found.low, found.high), identified

    return read


def _loss(law: Law, sizes: Mapping[str, float], level: float) -> Estimated:
    low, high = law.uncertainty.of_log_loss(law.logs(**sizes), level)[:, 0]
    return float(np.log(law.predict(**sizes)[0])), (float(low), float(high)), law.judge_loss(**sizes).identified
