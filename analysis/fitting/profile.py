"""Profile likelihood: how far a quantity can be moved, all parameters refitted, before the runs object.

Legend of shapes: R rows of a batch, K quantities, Q queried sizes, P parameters, A axes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.arrays import BoolArray, FloatArray, IntArray
from analysis.fitting.descent import minimize
from analysis.fitting.noise import Noise
from analysis.fitting.optimum import Optimum

ROUNDS = 12
CLOSE = 0.01  # relative error of the rise's square root at which an end of an interval is found
EXACT = 1e-5  # a refit ends when its steps gain less, in units of F
PULL = 30.0  # stiffness of the pull over the profile's own: enough to hold where the profile bends downward
EXACT_PULL = 1e5
FARTHEST = 60.0  # an end is not looked for farther than this, in units of the quadratic approximation ...
FARTHEST_MOVE = 6.0  # ... and than theta's own moves of this size take the quantity, or than this in its own units
LONGEST_START = 1.0  # of a start's way from the point before, in theta: a way the runs do not see may be endless
BLOCK = 32  # predictions profiled at once
NOISELESS = 1e-20  # a rise below this for each run is rounding: the runs lie on the law
UNSEEN = 1e16  # variance for unit noise, from which rounding alone moves a quantity by its per cents: nothing sees it
TINY = 1e-300
STEP = 1e-5  # of the numerical derivatives

Quantities = Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray]]
"""Of each row the quantity of that number (R,): its value (R,) and derivatives (R, P) at theta (R, P), which are in
centred, scaled units. An interval is found fastest for quantities that are nearly linear in theta."""


@dataclass(frozen=True)
class Interval:
    """An interval; an open end is the farthest that was looked at: the runs do not bound it."""

    low: float
    high: float
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class Profile:
    """The objective's rise along quantities, around one optimum."""

    optimum: Optimum
    noise: Noise

    @cached_property
    def _covariance(self) -> FloatArray:
        """(P, P) inverse of slope * J J^T; directions that the runs do not see are very long, not infinite."""
        jacobian = self.optimum.problem.residuals(self.optimum.theta[None])[1][0]
        length = np.maximum(np.linalg.norm(jacobian, axis=1), 1e-8)
        unit = jacobian / length[:, None]
        information = unit @ unit.T + 1e-9 * np.eye(len(unit))
        inverse = np.linalg.inv(information) / np.outer(length, length)
        return np.asarray(inverse / self.noise.slope)

    @property
    def standard_errors(self) -> FloatArray:
        """(P,) of theta, from the curvature at the optimum and the noise."""
        return np.asarray(np.sqrt(2 * self.noise.objective_per_f * np.diagonal(self._covariance)))

    def rise_at(self, theta: FloatArray) -> FloatArray:
        """(R,) how much higher the objective is at theta (R, P) than at the optimum."""
        costs: FloatArray = self.optimum.problem.costs(theta, self.optimum.objective).sum(1)
        return costs - self.optimum.value

    def points(
        self, quantities: Quantities, which: IntArray, target: FloatArray, stiff: FloatArray, start: FloatArray
    ) -> FloatArray:
        """theta (R, P) of the lowest objective near which the quantities of numbers (R, K) have the values (R, K).

        Each is a point of the profile exactly, but at the value its quantity has there, which falls short of the
        target by the profile's slope over the stiffness (R, K).
        """

        def pull(theta: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
            columns = [quantities(theta, which[rows, k]) for k in range(which.shape[1])]
            root = np.sqrt(stiff[rows])
            difference = root * (np.stack([value for value, _ in columns], 1) - target[rows])
            return difference, root[:, :, None] * np.stack([slope for _, slope in columns], 1)

        counts = np.ones((len(start), len(self.optimum.problem.log_loss)))
        problem, objective = self.optimum.problem, self.optimum.objective
        return minimize(problem, objective, counts, start, pull=pull, enough=EXACT * self.noise.objective_per_f).theta

    def directions(self, quantities: Quantities, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of each quantity the value (K,), the variance (K,) for unit noise, and the way (K, P) theta goes per unit."""
        theta = np.repeat(self.optimum.theta[None], count, axis=0)
        value, slope = quantities(theta, np.arange(count))
        way = slope @ self._covariance
        variance = np.maximum(np.einsum("kp,kp->k", way, slope), TINY)
        return value, variance, way / variance[:, None]

    def intervals(self, quantities: Quantities, count: int, level: float) -> list[Interval]:
        """The profile interval of each of `count` quantities.

        The square root of the rise is nearly linear in the quantity, so its ends are found by the secant rule, all at
        once, each step a batch of refits.
        """
        rise = self.noise.rise(level)
        value, variance, way = self.directions(quantities, count)
        if rise < NOISELESS * len(self.optimum.problem.log_loss):
            unseen = (variance > UNSEEN).tolist()
            return [Interval(v, v, is_open, is_open) for v, is_open in zip(value.tolist(), unseen, strict=True)]
        which = np.tile(np.arange(count), 2)
        reach = FARTHEST_MOVE * self._leverage(quantities, count)
        unit = np.minimum(np.sqrt(2 * rise * variance), reach / 4)[which] * np.repeat([-1.0, 1.0], count)
        stiff = PULL / variance[which]
        search = _Search.begin(self.optimum.theta, np.minimum(FARTHEST, reach[which] / np.abs(unit)))
        for _ in range(ROUNDS):
            todo = search.todo()
            if not len(todo):
                break
            rows = which[todo]
            move = ((search.aim - search.inside)[todo] * unit[todo])[:, None] * way[rows]
            start = search.theta[todo] + move / np.maximum(np.abs(move).max(1, keepdims=True) / LONGEST_START, 1.0)
            target = value[rows] + search.aim[todo] * unit[todo]
            ends = self.points(quantities, rows[:, None], target[:, None], stiff[todo, None], start)
            reached = (quantities(ends, rows)[0] - value[rows]) / unit[todo]
            search.note(todo, ends, reached, np.sqrt(np.maximum(self.rise_at(ends), 0.0) / rise))
        ends_at, is_open = search.ends()
        at = value[which] + ends_at * unit
        ends_of = zip(at[:count], at[count:], is_open[:count], is_open[count:], strict=True)
        return [
            Interval(float(low), float(high), bool(open_low), bool(open_high))
            for low, high, open_low, open_high in ends_of
        ]

    def curve(self, quantities: Quantities, number: int, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values (R,) of one quantity near the targets (R,), and the objective's rise (R,) there in units of F."""
        value, variance, way = self.directions(quantities, number + 1)
        which = np.full((len(targets), 1), number)
        start = self._towards((targets - value[number])[:, None] * way[number])
        stiff = np.full((len(targets), 1), PULL / variance[number])
        theta = self.points(quantities, which, targets[:, None], stiff, start)
        return quantities(theta, which[:, 0])[0], np.maximum(self.rise_at(theta), 0.0) / self.noise.objective_per_f

    def plane(self, quantities: Quantities, pair: tuple[int, int], targets: FloatArray) -> FloatArray:
        """The objective's rise (R,) in units of F where two quantities have the values `targets` (R, 2).

        The pull is stiff enough for the values to be those targets; for quantities that are linear in theta.
        """
        numbers = np.array(pair)
        theta = np.repeat(self.optimum.theta[None], 2, axis=0)
        value, slope = quantities(theta, numbers)
        way = np.linalg.solve(slope @ self._covariance @ slope.T, slope @ self._covariance)
        variance = np.diagonal(slope @ self._covariance @ slope.T)
        stiff = np.repeat(EXACT_PULL / variance[None], len(targets), axis=0)
        ends = self.points(
            quantities,
            np.repeat(numbers[None], len(targets), 0),
            targets,
            stiff,
            self._towards((targets - value) @ way),
        )
        return np.maximum(self.rise_at(ends), 0.0) / self.noise.objective_per_f

    def _leverage(self, quantities: Quantities, count: int) -> FloatArray:
        """(K,) by how much a quantity goes with theta, at least 1: a coefficient in the user's units, far from the
        centred one where sizes are far from 1, goes with the exponent by the logarithm of a size."""
        slope = quantities(np.repeat(self.optimum.theta[None], count, axis=0), np.arange(count))[1]
        return np.asarray(np.maximum(np.abs(slope).max(1), 1.0))

    def _towards(self, move: FloatArray) -> FloatArray:
        """(R, P) the optimum moved, but nowhere farther than LONGEST_START."""
        length = np.abs(move).max(1, keepdims=True)
        return np.asarray(self.optimum.theta + move / np.maximum(length / LONGEST_START, 1.0))


@dataclass
class _Search:
    """The search for K ends of intervals at once, each along its own steps from the optimum outwards.

    An end is where the square root of the rise, in units of that at the end, is 1.

    Attributes:
        farthest: (K,) where the search ends.
        theta: (K, P) at the farthest points within.
        inside, outside: (K,) the farthest point within, and the nearest beyond; infinite until one is found.
        root_inside, root_outside: (K,) the square root of the rise at these.
        aim: (K,) where to look next.
        stuck: (K,) rounds without progress.
    """

    farthest: FloatArray
    theta: FloatArray
    inside: FloatArray
    outside: FloatArray
    root_inside: FloatArray
    root_outside: FloatArray
    aim: FloatArray
    stuck: IntArray

    @classmethod
    def begin(cls, optimum: FloatArray, farthest: FloatArray) -> "_Search":
        """From the optimum (P,), for ends that are looked for up to `farthest` (K,)."""
        count = len(farthest)
        theta, zeros = np.repeat(optimum[None], count, axis=0), np.zeros((2, count))
        unknown = np.full((2, count), np.inf)
        return cls(farthest, theta, zeros[0], unknown[0], zeros[1], unknown[1], np.ones(count), np.zeros(count, int))

    def todo(self) -> IntArray:
        """Ends that are not known well enough: not met, nor between two points so near that a line joins them."""
        met = (1 - self.root_inside < CLOSE) | (self.root_outside - 1 < CLOSE)
        near = self.outside - self.inside < CLOSE * np.abs(self.outside)
        return np.flatnonzero((self.stuck < 2) & ~(met | near))

    def note(self, rows: IntArray, theta: FloatArray, reached: FloatArray, root: FloatArray) -> None:
        """Take the points (R,) of these ends into account, and aim anew."""
        beyond = root >= 1.0
        far = beyond.copy()
        far[beyond] = reached[beyond] < self.outside[rows[beyond]]
        self.outside[rows[far]], self.root_outside[rows[far]] = reached[far], root[far]
        gained = ~beyond & (reached > self.inside[rows] + 1e-6)
        self.stuck[rows[~beyond & ~gained]] += 1
        self.inside[rows[gained]], self.root_inside[rows[gained]] = reached[gained], root[gained]
        self.theta[rows[gained]] = theta[gained]
        self.stuck[(self.inside >= self.farthest) & ~np.isfinite(self.outside)] = 2
        self.aim = self._next()

    def _next(self) -> FloatArray:
        """Where to look next: on the line between the points, or ahead of the last one, at most fourfold."""
        bracketed = np.isfinite(self.outside)
        gap = np.where(bracketed, self.outside - self.inside, 1.0)
        rise = np.where(bracketed, self.root_outside - self.root_inside, 1.0)
        share = np.clip((1 - self.root_inside) / np.maximum(rise, 1e-9), 0.1, 0.9)
        ahead = self.inside * np.clip(1.05 / np.maximum(self.root_inside, 1e-9), 1.2, 4.0)
        ahead = np.where(self.inside > 0, ahead, 0.25)
        return np.where(bracketed, self.inside + share * gap, np.minimum(ahead, self.farthest))

    def ends(self) -> tuple[FloatArray, BoolArray]:
        """The ends (K,), and whether they are open."""
        bracketed = np.isfinite(self.outside)
        gap = np.where(bracketed, self.outside - self.inside, 0.0)
        rise = np.where(bracketed, self.root_outside - self.root_inside, 1.0)
        at = self.inside + gap * np.clip((1 - self.root_inside) / np.maximum(rise, 1e-9), 0.0, 1.0)
        return at, ~bracketed & (1 - self.root_inside >= CLOSE)


def predictions(optimum: Optimum, logs: FloatArray) -> Quantities:
    """log of the predicted loss at each of the sizes `logs` (A, Q)."""
    form, log_scale = optimum.problem.form, math.log(optimum.scale)

    def quantities(theta: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray]:
        loss, slope = form.evaluate(theta, logs)
        rows = np.arange(len(theta))
        chosen = np.maximum(loss[rows, which], TINY)
        return np.log(chosen) + log_scale, slope[rows, :, which] / chosen[:, None]

    return quantities


def numerical(function: Callable[[FloatArray], FloatArray]) -> Quantities:
    """Quantities (R, K) given as a function of theta (R, P), with derivatives by central differences."""
    return numerical_each(lambda theta, which: function(theta)[np.arange(len(theta)), which])


def numerical_each(function: Callable[[FloatArray, IntArray], FloatArray]) -> Quantities:
    """The same for a function that computes of each row the quantity of that number alone: (R,) of (R, P) and (R,)."""

    def quantities(theta: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray]:
        shifts = STEP * np.concatenate([np.zeros((1, theta.shape[1])), np.eye(theta.shape[1]), -np.eye(theta.shape[1])])
        shifted = (theta[None] + shifts[:, None]).reshape(-1, theta.shape[1])
        values = function(shifted, np.tile(which, len(shifts))).reshape(len(shifts), len(theta))
        up, down = np.split(values[1:], 2)
        return values[0], np.asarray((up - down).T / (2 * STEP))

    return quantities
