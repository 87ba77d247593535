"""Would the law have predicted the larger runs before they were made? Fit without them, predict them.

Every interval is that of single further runs as a law reports it (`Law.band`), so that the share of held-out runs
inside is a test of the intervals that forecasts are made with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitting import PROFILE_BELOW, Law, refit, resampling_unit
from analysis.selection.origins import REACH, Origin, cut_sizes, largest_origin, rolling_origins
from analysis.selection.plain import Plain, plain_scores, reasons_against
from analysis.selection.scores import Score, mean_coverage, mean_rmse
from analysis.tables import RunTable
from scaling.errors import DataError

REPLICATES = 200
"""Refits for the intervals at each origin: that of a single run is as wide as the scatter, not as a parameter's."""


@dataclass(frozen=True)
class HeldOutRun:
    """One run that the law was not fitted to; `inside` says whether its loss lies in the 95 % band of single runs."""

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
class HeldOut:
    """The runs beyond one origin, predicted by a law of those up to it.

    Attributes:
        size: the smallest size held out.
        law: the fit to the other runs, None if they were too few; then `problem` says why, and there are no `runs`.
        rmse: root mean square of log_error.
        rmse_fitted: the same over the runs the law was fitted to, for comparison.
        coverage: share of the held-out runs inside their 95 % interval.
    """

    origin: Origin
    size: float
    runs: tuple[HeldOutRun, ...]
    law: Law | None
    problem: str | None

    @property
    def axis(self) -> str:
        """The axis of the cut: "N", "D", ..., or "width" where N is made of several widths and depths."""
        return self.origin.axis

    @property
    def rmse(self) -> float | None:
        return float(np.sqrt(np.mean([run.log_error**2 for run in self.runs]))) if self.runs else None

    @property
    def rmse_fitted(self) -> float | None:
        return float(np.sqrt(np.mean(self.law.residuals**2))) if self.law else None

    @property
    def coverage(self) -> float | None:
        return float(np.mean([run.inside for run in self.runs])) if self.runs else None

    @property
    def score(self) -> Score | None:
        """What is compared between forms; None where no law could be fitted."""
        if self.law is None or self.rmse is None:
            return None
        counts = len(self.law.table), len(self.runs)
        return Score(self.origin.axis, self.origin.size, *counts, self.rmse, self.coverage)


@dataclass(frozen=True)
class Backtest(Sequence[HeldOut]):
    """A law's form fitted to the smaller runs at several origins: a sequence of what was held out at each.

    Attributes:
        plain: what is predicted without a law.
        against: why there is no power law here; empty where there is.
    """

    law: Law
    tests: tuple[HeldOut, ...]
    plain: tuple[Plain, ...]
    against: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tests)

    def __getitem__(self, place: Any) -> Any:
        return self.tests[place]

    def __iter__(self) -> Iterator[HeldOut]:
        return iter(self.tests)

    @property
    def scores(self) -> tuple[Score, ...]:
        """One for each origin at which the form could be fitted."""
        return tuple(score for test in self.tests if (score := test.score) is not None)

    @property
    def rmse(self) -> float:
        """Error of log loss on held-out runs, mean over the origins; NaN without scores."""
        return mean_rmse(self.scores)

    @property
    def coverage(self) -> float | None:
        """Share of the held-out runs inside their 95 % interval, all origins together."""
        return mean_coverage(self.scores)


def backtest(law: Law, *, reach: float = REACH, every_origin: bool = True, replicates: int = REPLICATES) -> Backtest:
    """Fit the law's form, with its objective and delta, to the smaller runs, and predict the larger ones.

    An axis too short for such origins is cut at its largest size all the same; where the runs that remain cannot
    determine the form, the test says so instead of a number.

    Args:
        reach: how far beyond each origin runs are predicted, as a factor in size.
        every_origin: else one for each axis, see `largest_origin`.
        replicates: refits for the intervals, where they are the bootstrap's.
    Raises:
        ConfigError: if the reach is not above 1.
    """
    axes = [axis for axis in law.form.axes if axis not in law.form.uncentred]
    origins: list[Origin] = []
    for axis in axes:
        found = rolling_origins(law.table, [axis], reach) if every_origin else ()
        origins += found or (largest_origin(law.table, axis),)
    tests = tuple(_test(law, origin, replicates) for origin in origins)
    kept = [test.origin for test in tests if test.runs]
    plain = plain_scores(law.table, axes, kept)
    scores = [score for test in tests if (score := test.score) is not None]
    problem = law.optimum.problem
    return Backtest(law, tests, plain, reasons_against(problem, -law.residuals, law.form.name, scores, plain))


def predict_held_out(law: Law, table: RunTable, origin: Origin) -> HeldOut:
    """The table's runs beyond the origin, predicted by a law of runs up to it."""
    held_out = table.keep(origin.held_out)
    predicted = law.predict(**held_out.sizes)
    band = law.band(level=0.95, of_runs=True, **held_out.sizes)
    runs = tuple(
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
    return HeldOut(origin, _smallest(table, origin), runs, law, None)


def needed_replicates(table: RunTable, replicates: int) -> int:
    """The replicates if the intervals of a fit to this table are the bootstrap's, else 0."""
    return replicates if int(resampling_unit(table)[1].max()) + 1 >= PROFILE_BELOW else 0


def _test(law: Law, origin: Origin, replicates: int) -> HeldOut:
    smaller = law.table.keep(origin.fitted)
    try:
        smaller_law = refit(law, smaller, replicates=needed_replicates(smaller, replicates))
    except DataError as error:
        return HeldOut(origin, _smallest(law.table, origin), (), None, str(error))
    return predict_held_out(smaller_law, law.table, origin)


def _smallest(table: RunTable, origin: Origin) -> float:
    """The smallest size held out."""
    return float(cut_sizes(table, origin.axis)[origin.held_out].min())
