"""The information that runs hold about a prediction, and the variance that is left.

To first order the variance of a target c(theta) is c^T M^-1 c with M = sum over runs of J J^T / sigma^2, J the gradient
of log loss. J depends on the unknown theta, so all is done at each of several draws of it, the bootstrap's.

Legend of shapes: S draws of theta, P parameters, M runs, K candidates.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from analysis.arrays import FloatArray
from analysis.design.targets import Target
from analysis.fitting import Law

MAX_DRAWS = 60
PRIOR_SD = {"floor": 0.5, "coefficient": 3.0, "exponent": 1.0, "shape": 5.0}
"""Wide normal priors in centred, scaled units (loss over its geometric mean, coefficients as logarithms): they keep the
information regular where a term has vanished, and are not felt elsewhere."""
MIN_REPEATS = 8
"""Least number of runs that repeat a size for an estimate of how much runs of the same sizes err alike."""
SAME_LOG_SIZE = 1e-3


@dataclass(frozen=True)
class State:
    """What is known of the target and of the candidates' losses at each draw of theta.

    Attributes:
        covariance: (S, P, P) of theta.
        candidates: (S, K, P) J / sigma of each: a run of k adds weight_k a_k a_k^T to the information.
        variance: (S,) of the target.
        shared: (S, K) covariance of the target and each candidate's log loss over sigma.
        own: (S, K) variance of each candidate's log loss over sigma^2, its noise not counted.
        runs: (K,) how many runs there are of each candidate's sizes.
        same_size: correlation of the errors of runs of the same sizes.
    """

    covariance: FloatArray
    candidates: FloatArray
    variance: FloatArray
    shared: FloatArray
    own: FloatArray
    runs: FloatArray
    same_size: float

    @property
    def weights(self) -> FloatArray:
        """(K,) information of one more run, in units of a first one.

        The mean of n runs whose errors correlate by r is worth n / (1 + (n - 1) r) independent ones.
        """
        weights: FloatArray = worth(self.runs + 1, self.same_size) - worth(self.runs, self.same_size)
        return weights

    def of_first(self, count: int) -> "State":
        """The same with the first `count` candidates alone."""
        part = slice(0, count)
        return replace(
            self,
            candidates=self.candidates[:, part],
            shared=self.shared[:, part],
            own=self.own[:, part],
            runs=self.runs[part],
        )

    def after_each(self) -> FloatArray:
        """(S, K) variance of the target after one run of each candidate, by the rank-one update of the inverse."""
        after: FloatArray = self.variance[:, None] - self.weights * self.shared**2 / (1.0 + self.weights * self.own)
        return after

    def with_run(self, candidate: int) -> "State":
        """After a run of the candidate. Source: Sherman and Morrison 1950, doi:10.1214/aoms/1177729893."""
        weight = float(self.weights[candidate])
        moved = np.einsum("spq,sq->sp", self.covariance, self.candidates[:, candidate])
        shares = np.einsum("skp,sp->sk", self.candidates, moved)
        gain = weight / (1.0 + weight * self.own[:, candidate])
        with_target = self.shared[:, candidate]
        runs = self.runs.copy()
        runs[candidate] += 1
        return State(
            self.covariance - gain[:, None, None] * moved[:, :, None] * moved[:, None, :],
            self.candidates,
            self.variance - gain * with_target**2,
            self.shared - (gain * with_target)[:, None] * shares,
            self.own - gain[:, None] * shares**2,
            runs,
            self.same_size,
        )


def worth(count: FloatArray, correlation: float) -> FloatArray:
    """Independent runs that `count` runs with errors of this correlation are worth."""
    independent: FloatArray = count / (1.0 + np.maximum(count - 1.0, 0.0) * correlation)
    return independent


def noise_of_runs(law: Law) -> float:
    """Standard deviation of log loss that a run's information is worth under the law's objective.

    The scatter, divided by the efficiency that Huber's function keeps under normal noise. Source: Huber 1981, sec. 4.5.
    """
    freedom = max(len(law.table) - len(law.form.parameters), 1)
    objective = law.optimum.objective
    residuals = law.residuals
    if objective.name == "least_squares":
        return law.residual_sd
    scatter = 1.4826 * float(np.median(np.abs(residuals))) * np.sqrt(len(residuals) / freedom)
    k = max(objective.delta, 1e-9) / max(scatter, 1e-9)
    inside = 2 * ndtr(k) - 1
    density = np.exp(-(k**2) / 2) / np.sqrt(2 * np.pi)
    squares = inside - 2 * k * density + 2 * k**2 * ndtr(-k)
    return float(scatter * np.sqrt(squares) / inside)


def state_of(law: Law, target: Target, sizes: dict[str, FloatArray]) -> State:
    """The state after the law's own runs, with candidates of the given sizes (K,) by axis."""
    theta = _draws(law)
    noise = max(noise_of_runs(law), 1e-6)
    correlation = correlation_of_same_size(law)
    group, counts = _configurations(law)
    weights = worth(counts, correlation) / counts
    runs = law.optimum.problem.residuals(theta)[1] / noise
    prior = np.array([PRIOR_SD[parameter.kind] for parameter in law.form.parameters]) ** -2.0
    covariance = np.linalg.inv((runs * weights[group]) @ runs.transpose(0, 2, 1) + np.diag(prior))
    gradient = target.gradients(law, theta)
    logs = law.logs(**sizes)
    value, by_theta = law.form.evaluate(theta, logs)
    candidates = (by_theta / value[:, None]).transpose(0, 2, 1) / noise
    moved = candidates @ covariance
    same = np.abs(logs[:, :, None] - law.optimum.problem.logs[:, None, :]).max(0) < SAME_LOG_SIZE
    return State(
        covariance,
        candidates,
        np.einsum("sp,spq,sq->s", gradient, covariance, gradient),
        np.einsum("skp,sp->sk", moved, gradient),
        np.einsum("skp,skp->sk", moved, candidates),
        same.sum(1).astype(float),
        correlation,
    )


def correlation_of_same_size(law: Law) -> float:
    """Share of the residuals' variance that runs of the same sizes have in common, from the table's repeated runs.

    Analysis of variance with one random factor, the size; 0 where fewer than MIN_REPEATS runs repeat a size.
    """
    group, counts = _configurations(law)
    repeats = int((counts - 1).sum())
    if repeats < MIN_REPEATS:
        return 0.0
    means = np.bincount(group, law.residuals) / counts
    within = float(((law.residuals - means[group]) ** 2).sum()) / repeats
    return float(np.clip(1.0 - within / max(law.residual_sd**2, 1e-300), 0.0, 1.0))


def _configurations(law: Law) -> tuple[np.ndarray, FloatArray]:
    """The configuration (M,) of each run, and how many runs each has."""
    rounded = np.round(law.optimum.problem.logs.T / SAME_LOG_SIZE)
    group = np.unique(rounded, axis=0, return_inverse=True)[1].ravel()
    return group, np.bincount(group).astype(float)


def _draws(law: Law) -> FloatArray:
    if law.samples is None:
        return law.optimum.theta[None]
    count = len(law.samples.theta)
    draws: FloatArray = law.samples.theta[np.linspace(0, count - 1, min(count, MAX_DRAWS)).astype(int)]
    return draws


def log_width(variance: FloatArray) -> FloatArray:
    """Mean over draws of the log of the target's standard deviation; smaller is better."""
    mean: FloatArray = 0.5 * np.log(np.maximum(variance, 1e-300)).mean(0)
    return mean
