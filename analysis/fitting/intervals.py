"""The intervals a law reports: of its parameters, of the loss it predicts, and of anything computed from it.

Below PROFILE_BELOW independent groups of runs they are profile likelihood intervals with an F threshold. In simulated
studies (docs/benchmarks.md) they cover as often as percentiles of the bootstrap, are narrower at a dozen runs, do not
depend on a seed, and say where the runs set no end. From there on they are percentile intervals of the bootstrap over
groups, which needs no assumption that all runs scatter alike.

Legend of shapes: R rows, K quantities, Q queried sizes, P parameters, A axes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from analysis.arrays import FloatArray, IntArray
from analysis.fitting.noise import Noise, noise_of
from analysis.fitting.optimum import Optimum
from analysis.fitting.profile import BLOCK, Interval, Profile, numerical, numerical_each, predictions
from analysis.fitting.resampling import Bootstrap, interval, resampling_unit
from analysis.forms import Parameter
from analysis.tables import RunTable
from scaling.errors import ConfigError

PROFILE_BELOW = 100
LEVELS = (0.5, 0.999)


@dataclass(frozen=True)
class Uncertainty:
    """What is known of a fit's errors: the profile of its objective, and the bootstrap if there is one.

    Attributes:
        unit: what counts as one independent observation, "run" or "configuration" (all seeds of one size).
        num_units: how many there are.
    """

    optimum: Optimum
    samples: Bootstrap | None
    unit: str
    group: IntArray

    @property
    def num_units(self) -> int:
        return int(self.group.max()) + 1

    @property
    def method(self) -> str:
        """How the intervals are made: "profile" or "bootstrap"."""
        return "bootstrap" if self.samples is not None and self.num_units >= PROFILE_BELOW else "profile"

    @property
    def is_known(self) -> bool:
        """Whether there are intervals: from PROFILE_BELOW units on they are the bootstrap's, so not without one."""
        return self.samples is not None or self.num_units < PROFILE_BELOW

    @cached_property
    def noise(self) -> Noise:
        """What a rise of the objective is measured by."""
        return noise_of(self.optimum, self.group)

    @cached_property
    def profile(self) -> Profile:
        """The objective's rise around the optimum."""
        return Profile(self.optimum, self.noise)

    def of_parameters(self, level: float = 0.95) -> tuple[Interval, ...]:
        """Of each parameter in the user's units; an open end is infinite, or 0 where nothing less is possible."""
        check_level(level)
        if self.method == "bootstrap" and self.samples is not None:
            return _percentiles(self.samples.values, level)
        optimum, parameters = self.optimum, self.optimum.problem.form.parameters
        logged = np.array([_spans_decades(parameter) for parameter in parameters])
        unit = np.array([optimum.scale if parameter.kind == "floor" else 1.0 for parameter in parameters])

        def searched(theta: FloatArray) -> FloatArray:
            values = optimum.problem.form.public(theta, optimum.centre, optimum.scale) / unit
            return np.asarray(np.where(logged, np.log(np.maximum(values, 1e-300)), values))

        found = self.profile.intervals(numerical(searched), len(parameters), level)
        ends = np.array([[one.low, one.high] for one in found])
        ends = np.where(logged[:, None], np.exp(np.minimum(ends, 700.0)), ends) * unit[:, None]
        return tuple(
            _closed(Interval(float(low), float(high), one.low_open, one.high_open), 0.0 if low >= 0 else -np.inf)
            for (low, high), one in zip(ends, found, strict=True)
        )

    def of_log_loss(self, logs: FloatArray, level: float = 0.95) -> FloatArray:
        """(2, Q) of the logarithm of the law's loss at centred logarithms (A, Q) of sizes; an open end is infinite."""
        check_level(level)
        if self.method == "bootstrap" and self.samples is not None:
            loss = self.optimum.problem.form.evaluate(self.samples.theta, logs)[0] * self.optimum.scale
            return interval(np.log(loss), level)
        ends = []
        for first in range(0, logs.shape[1], BLOCK):
            part = logs[:, first : first + BLOCK]
            ends += self.profile.intervals(predictions(self.optimum, part), part.shape[1], level)
        closed = [_closed(one, -np.inf) for one in ends]
        return np.array([[one.low for one in closed], [one.high for one in closed]])

    def of_runs(self, log_loss: FloatArray, ends: FloatArray, residual_sd: float, level: float = 0.95) -> FloatArray:
        """(2, Q) of the log loss of one further run, from the law's own log loss (Q,), its interval's ends (2, Q) and
        the residual standard deviation: the two errors, which are independent, are added as squares."""
        further = residual_sd * float(stdtrit(self.noise.freedom, 0.5 + level / 2))
        sides = np.array([[-1.0], [1.0]])
        return np.asarray(log_loss + sides * np.hypot(ends - log_loss, further))

    def of(self, function: Callable[[FloatArray], FloatArray], level: float = 0.95) -> tuple[Interval, ...]:
        """Of K quantities computed from theta: `function` takes (R, P), centred and scaled, and returns (R, K).

        Give positive quantities that span decades as logarithms.
        """
        check_level(level)
        if self.method == "bootstrap" and self.samples is not None:
            return _percentiles(function(self.samples.theta), level)
        count = function(self.optimum.theta[None]).shape[1]
        return tuple(_closed(one, -np.inf) for one in self.profile.intervals(numerical(function), count, level))

    def of_each(
        self, function: Callable[[FloatArray, IntArray], FloatArray], count: int, level: float = 0.95
    ) -> tuple[Interval, ...]:
        """As `of`, for a function that computes of each theta (R, P) one quantity alone, that of number (R,)."""
        check_level(level)
        if self.method == "bootstrap" and self.samples is not None:
            theta = self.samples.theta
            return _percentiles(np.stack([function(theta, np.full(len(theta), k)) for k in range(count)], 1), level)
        return tuple(_closed(one, -np.inf) for one in self.profile.intervals(numerical_each(function), count, level))


def _spans_decades(parameter: Parameter) -> bool:
    """Whether the parameter is positive and best searched by its logarithm."""
    return parameter.kind == "coefficient" or (parameter.kind == "shape" and parameter.lower != 0)


def uncertainty_of(table: RunTable, optimum: Optimum, samples: Bootstrap | None) -> Uncertainty:
    """The uncertainty of a fit to this table; its unit is that of the bootstrap."""
    return Uncertainty(optimum, samples, *resampling_unit(table))


def check_level(level: float) -> None:
    """Raise ConfigError for a level that is no share, or too near 1 for the number of replicates."""
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise ConfigError(f"level={level} must be between {LEVELS[0]} and {LEVELS[1]}, e.g. 0.95")


def _percentiles(values: FloatArray, level: float) -> tuple[Interval, ...]:
    low, high = interval(values, level)
    return tuple(Interval(float(a), float(b), False, False) for a, b in zip(low, high, strict=True))


def _closed(one: Interval, at_least: float) -> Interval:
    """An open lower end is put at the least possible value, an open upper end at infinity."""
    low = at_least if one.low_open else one.low
    return Interval(low, np.inf if one.high_open else one.high, one.low_open, one.high_open)
