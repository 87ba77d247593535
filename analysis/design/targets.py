"""What a law is asked for: a loss far away, an exponent, an optimal size; its value and gradient at any theta.

Legend of shapes: R thetas, P parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.arrays import FloatArray
from analysis.compute import Cost, measure_cost, optimal_log_n, repetitions
from analysis.fitting import Law
from scaling.errors import ConfigError

FAR = 10.0
"""The default target is this factor beyond the largest sampled size of every axis."""
CURVATURE_STEP = 0.03  # in log N, of the differences along a path of equal compute


@dataclass(frozen=True)
class Target:
    """One number that a law predicts.

    Attributes:
        kind: "loss", "exponent" or "N*".
        name: "log loss", the exponent's name, or "log N*".
        cost: divides `compute` between N and D, as a frontier's.
        sizes: of the predicted loss, by axis.
        compute: C at which N* is wanted, in FLOPs.
    """

    kind: Literal["loss", "exponent", "N*"]
    name: str
    cost: Cost
    sizes: Mapping[str, float] = field(default_factory=dict)
    compute: float | None = None

    @property
    def is_log(self) -> bool:
        """Whether the value is a logarithm, so that an interval of it is a factor."""
        return self.kind != "exponent"

    def values(self, law: Law, theta: FloatArray) -> FloatArray:
        """(R,) at theta (R, P)."""
        if self.kind == "exponent":
            return theta[:, self._column(law)]
        if self.kind == "loss":
            values: FloatArray = np.log(law.form.evaluate(theta, law.logs(**self.sizes))[0][:, 0] * law.optimum.scale)
            return values
        return self._log_optimum(law, theta)

    def gradients(self, law: Law, theta: FloatArray) -> FloatArray:
        """(R, P) derivatives of the values by theta."""
        if self.kind == "exponent":
            gradients = np.zeros_like(theta)
            gradients[:, self._column(law)] = 1.0
            return gradients
        if self.kind == "loss":
            value, by_theta = law.form.evaluate(theta, law.logs(**self.sizes))
            return by_theta[:, :, 0] / value
        return np.array([self._optimum_gradient(law, row) for row in theta])

    def _column(self, law: Law) -> int:
        return [parameter.name for parameter in law.form.parameters].index(self.name)

    @property
    def _budget(self) -> float:
        assert self.compute is not None, "a target N* has its compute"
        return self.compute

    def _along(self, law: Law, theta: FloatArray, log_n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (Q,) and its derivatives (P, Q) at the budget, D = C / (k N)."""
        log_d = np.log(self._budget / self.cost.flops_per_nd) - log_n
        sizes = {"N": np.exp(log_n), "D": np.exp(log_d), **repetitions(law, self.cost)}
        value, gradient = law.form.evaluate(theta[None], law.logs(**sizes))
        return value[0], gradient[0]

    def _log_optimum(self, law: Law, theta: FloatArray) -> FloatArray:
        """log N (R,) of the lowest loss at the budget."""
        return optimal_log_n(law, self.cost, theta, np.full(len(theta), self._budget))

    def _optimum_gradient(self, law: Law, theta: FloatArray) -> FloatArray:
        """By the implicit function theorem: -d2L/(dlogN dtheta) / d2L/dlogN^2."""
        step = CURVATURE_STEP
        value, gradient = self._along(
            law, theta, self._log_optimum(law, theta[None]) + step * np.array([-1.0, 0.0, 1.0])
        )
        curvature = (value[0] - 2 * value[1] + value[2]) / step**2
        mixed = (gradient[:, 2] - gradient[:, 0]) / (2 * step)
        return np.asarray(-mixed / max(curvature, 1e-12))


def find_target(
    law: Law, target: str, sizes: Mapping[str, float], compute: float | None, *, cost: Cost | None = None
) -> Target:
    """The target called `target`: "loss", the name of one of the form's exponents, or "N*".

    Args:
        sizes: of the predicted loss, by axis; by default FAR times the largest sampled ones (epochs: the most).
        compute: for N*, in FLOPs; by default FAR^2 times those of the largest run.
        cost: what a run costs; by default as measured on the law's runs.
    Raises:
        ConfigError: if the target is unknown, or a number is not positive or belongs to another target.
    """
    _check(law, target, sizes, compute)
    cost = measure_cost(law.table, law.form.axes) if cost is None else cost
    if target == "loss":
        far = {axis: law.table.axis(axis).max() * (1 if axis == "epochs" else FAR) for axis in law.form.axes}
        return Target("loss", "log loss", cost, {axis: float(sizes.get(axis, far[axis])) for axis in law.form.axes})
    if target == "N*":
        far_off = FAR**2 * float(cost.flops_of_runs.max())
        return Target("N*", "log N*", cost, compute=far_off if compute is None else float(compute))
    return Target("exponent", target, cost)


def _check(law: Law, target: str, sizes: Mapping[str, float], compute: float | None) -> None:
    """Raise ConfigError for a target that the form does not have, or numbers that do not belong to it."""
    exponents = [parameter.name for parameter in law.form.parameters if parameter.kind == "exponent"]
    allowed = ["loss", *exponents, *(["N*"] if {"N", "D"} <= set(law.form.axes) else [])]
    if target not in allowed:
        raise ConfigError(f"target={target} is nothing form {law.form.name} predicts; choose {', '.join(allowed)}")
    if sizes and target != "loss":
        raise ConfigError(f"{', '.join(sizes)} say where the loss is wanted, but target={target}; leave them out")
    if compute is not None and target != "N*":
        raise ConfigError(f"compute={compute:g} is for target=N*; for target={target} leave it out")
    if unknown := [axis for axis in sizes if axis not in law.form.axes]:
        raise ConfigError(f"form {law.form.name} has no axis {unknown[0]}; it has {', '.join(law.form.axes)}")
    for name, size in {**sizes, **({"compute": compute} if compute is not None else {})}.items():
        if not (np.isfinite(size) and size > 0):
            raise ConfigError(f"{name}={size:g} must be a positive number")
