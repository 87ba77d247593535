"""Would the law have told us the largest runs before they were made? Fit without them, predict them."""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.law import Law, fit
from analysis.forms.terms import FloatArray
from analysis.tables import RunTable, distinct_sizes, same_size
from scaling.errors import DataError

REPLICATES = 400  # of each refit; the interval of a single run is as wide as the scatter, not as fine as a parameter's

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class HeldOutRun:
    """One run that the law did not see; `inside` says whether its loss lies in the 95 % band of single runs."""

    run: str
    num_params: float
    data_size: float
    observed: float
    predicted: float
    ci95: tuple[float, float]

    @property
    def inside(self) -> bool:
        return self.ci95[0] <= self.observed <= self.ci95[1]

    @property
    def log_error(self) -> float:
        """log of predicted over observed loss; positive means the law was too pessimistic."""
        return float(np.log(self.predicted / self.observed))


@dataclass(frozen=True)
class Backtest:
    """The largest sizes of one axis held out.

    Attributes:
        axis: "N", "D", or "width" where N is made of several widths and depths.
        size: the smallest size held out.
        law: the fit to the other runs, None if they were too few; then `problem` says why.
        rmse: root mean square of log_error.
        rmse_fitted: the same over the runs the law was fitted to, for comparison.
        coverage: share of the held-out runs inside their 95 % interval.
    """

    axis: str
    size: float
    runs: tuple[HeldOutRun, ...]
    law: Law | None
    problem: str | None

    @property
    def rmse(self) -> float | None:
        return float(np.sqrt(np.mean([run.log_error**2 for run in self.runs]))) if self.runs else None

    @property
    def rmse_fitted(self) -> float | None:
        return float(np.sqrt(np.mean(self.law.residuals**2))) if self.law else None

    @property
    def coverage(self) -> float | None:
        return float(np.mean([run.inside for run in self.runs])) if self.runs else None


def backtest(law: Law, *, replicates: int = REPLICATES) -> tuple[Backtest, ...]:
    """Hold out the runs of the largest size, for each axis of the law in turn.

    Where the models differ in width and depth, the largest width is held out instead of the largest N: at every depth.
    Where the sizes do not form a grid, as many of the largest are held out as make up HELD_OUT_SHARE of the runs.
    The refit uses the law's form, objective and delta. Where the remaining runs cannot determine the form, the
    backtest says so instead of a number.
    """
    return tuple(_hold_out(law, *_sizes(law.table, axis), replicates) for axis in law.form.axes)


def _sizes(table: RunTable, axis: str) -> tuple[str, FloatArray]:
    """The axis to hold out along, and each run's size on it."""
    frame = table.frame
    if axis == "N" and {"width", "depth"} <= set(frame) and frame["depth"].nunique() > 1 < frame["width"].nunique():
        return "width", frame["width"].to_numpy(dtype=float)
    return axis, table.axis(axis)


def _hold_out(law: Law, axis: str, sizes: FloatArray, replicates: int) -> Backtest:
    largest, size = _largest(sizes)
    objective = law.optimum.objective
    try:
        smaller = fit(
            law.table.keep(~largest),
            law.form.name,
            axis=law.form.axes[0] if len(law.form.axes) == 1 else None,
            objective=objective.name,
            delta=objective.delta if objective.name == "huber" else None,
            replicates=replicates,
            seed=law.seed,
        )
    except DataError as error:
        return Backtest(axis, size, (), None, str(error))
    return Backtest(axis, size, _predict(smaller, law.table.keep(largest)), smaller, None)


def _largest(sizes: FloatArray) -> tuple[np.ndarray, float]:
    """Mask of the held-out runs and the smallest size among them."""
    for size in distinct_sizes(sizes)[::-1]:
        mask = (sizes >= size) | same_size(sizes, size)
        if mask.mean() >= HELD_OUT_SHARE:
            break
    return mask, float(size)


def _predict(law: Law, held_out: RunTable) -> tuple[HeldOutRun, ...]:
    predicted = law.predict(**held_out.sizes)
    band = law.band(level=0.95, of_runs=True, **held_out.sizes)
    return tuple(
        HeldOutRun(
            held_out.run[i],
            float(held_out.num_params[i]),
            float(held_out.data_size[i]),
            float(held_out.loss[i]),
            float(predicted[i]),
            (float(band[0, i]), float(band[1, i])),
        )
        for i in range(len(held_out))
    )
