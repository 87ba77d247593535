"""What a law is asked for: a loss far away, an exponent, an optimal size; its value and gradient at any theta.

Legend of shapes: R thetas, P parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.compute.allocate import allocate
from analysis.compute.frontier import WEIGHTS
from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from analysis.tables import FLOPS_PER_PARAMETER_AND_SAMPLE
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
        sizes: of the predicted loss, by axis.
        compute: C = 6 N D at which N* is wanted, in FLOPs.
    """

    kind: Literal["loss", "exponent", "N*"]
    name: str
    sizes: Mapping[str, float]
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

    def _along(self, law: Law, theta: FloatArray, log_n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (Q,) and its derivatives (P, Q) along C = 6 N D."""
        log_d = np.log((self.compute or 1.0) / FLOPS_PER_PARAMETER_AND_SAMPLE) - log_n
        value, gradient = law.form.evaluate(theta[None], law.logs(N=np.exp(log_n), D=np.exp(log_d)))
        return value[0], gradient[0]

    def _log_optimum(self, law: Law, theta: FloatArray) -> FloatArray:
        """log N (R,) of the lowest loss with C = 6 N D."""
        log_nd = np.log([(self.compute or 1.0) / FLOPS_PER_PARAMETER_AND_SAMPLE])
        return allocate(law, theta, WEIGHTS, log_nd, {})["N"][:, 0]

    def _optimum_gradient(self, law: Law, theta: FloatArray) -> FloatArray:
        """By the implicit function theorem: -d2L/(dlogN dtheta) / d2L/dlogN^2."""
        step = CURVATURE_STEP
        value, gradient = self._along(
            law, theta, self._log_optimum(law, theta[None]) + step * np.array([-1.0, 0.0, 1.0])
        )
        curvature = (value[0] - 2 * value[1] + value[2]) / step**2
        mixed = (gradient[:, 2] - gradient[:, 0]) / (2 * step)
        return np.asarray(-mixed / max(curvature, 1e-12))


def find_target(law: Law, target: str, sizes: Mapping[str, float], compute: float | None) -> Target:
    """The target called `target`: "loss", the name of one of the form's exponents, or "N*".

    Args:
        sizes: of the predicted loss, by axis; by default FAR times the largest sampled ones (epochs: the most).
        compute: for N*, in FLOPs with C = 6 N D; by default FAR^2 times the largest sampled N D.
    Raises:
        ConfigError: if the target is unknown, or a number is not positive or belongs to another target.
    """
    exponents = [parameter.name for parameter in law.form.parameters if parameter.kind == "exponent"]
    allowed = ["loss", *exponents, *(["N*"] if set(law.form.axes) == {"N", "D"} else [])]
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
    if target == "loss":
        far = {axis: law.table.axis(axis).max() * (1 if axis == "epochs" else FAR) for axis in law.form.axes}
        return Target("loss", "log loss", {axis: float(sizes.get(axis, far[axis])) for axis in law.form.axes})
    if target == "N*":
        largest = FLOPS_PER_PARAMETER_AND_SAMPLE * float((law.table.num_params * law.table.data_size).max())
        return Target("N*", "log N*", {}, largest * FAR**2 if compute is None else float(compute))
    return Target("exponent", target, {})
