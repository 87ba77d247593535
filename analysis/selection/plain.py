"""Predictions that need no law, and the reasons for which there is none.

Legend of shapes: A axes, M runs, H held-out runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.fitting import Problem, chance_of_constant
from analysis.selection.origins import Origin
from analysis.selection.scores import Score, difference, mean_rmse
from analysis.tables import RunTable

MOST_CHANCE = 0.01
"""A law is needed where a constant would leave residuals as much larger by chance less often than this."""


@dataclass(frozen=True)
class Plain:
    """A prediction that needs no law."""

    name: str
    scores: tuple[Score, ...]

    @property
    def rmse(self) -> float:
        """Error of log loss on held-out runs, mean over the origins."""
        return mean_rmse(self.scores)


def plain_scores(table: RunTable, axes: Sequence[str], origins: Sequence[Origin]) -> tuple[Plain, ...]:
    """Scores of the predictions that need no law."""
    found = []
    for name, errors in _errors(table, axes, origins).items():
        scores = [
            Score(
                origin.axis,
                origin.size,
                int(origin.fitted.sum()),
                int(origin.held_out.sum()),
                float(np.sqrt(np.mean(error**2))),
            )
            for origin, error in zip(origins, errors, strict=True)
        ]
        found.append(Plain(name, tuple(scores)))
    return tuple(found)


def _errors(table: RunTable, axes: Sequence[str], origins: Sequence[Origin]) -> dict[str, list[FloatArray]]:
    """What is predicted without a law, as errors (H,) of log loss at each origin.

    "nearest smaller run": the loss of the fitted run nearest in log size (the mean over runs as near). "mean": that of
    all fitted runs.
    """
    logs = np.log(np.stack([table.axis(axis) for axis in axes]))
    logs = logs / np.maximum(logs.std(1, keepdims=True), 1e-12)
    log_loss = np.log(table.loss)
    errors: dict[str, list[FloatArray]] = {"nearest smaller run": [], "mean of the runs": []}
    for origin in origins:
        far = np.sqrt(((logs[:, origin.held_out, None] - logs[:, None, origin.fitted]) ** 2).sum(0))
        near = far <= far.min(1, keepdims=True) + 1e-6
        known = log_loss[origin.fitted]
        observed = log_loss[origin.held_out]
        errors["nearest smaller run"].append((near @ known) / near.sum(1) - observed)
        errors["mean of the runs"].append(known.mean() - observed)
    return errors


def reasons_against(
    problem: Problem,
    residual: FloatArray,
    name: str,
    scores: Sequence[Score],
    plain: Sequence[Plain],
    *,
    predictor: str = "",
) -> tuple[str, ...]:
    """Why there is no power law; () where there is.

    Args:
        problem: a form and all runs.
        residual: (M,) of log loss of that form fitted to all runs.
        name: of the form.
        scores: of what predicts the held-out runs, which is called `predictor` (the form itself, if empty).
    """
    against = []
    logs = problem.logs - problem.logs.mean(1, keepdims=True)
    slopes = np.linalg.lstsq(logs.T, problem.log_loss - problem.log_loss.mean(), rcond=None)[0]
    if (slopes >= 0).all():
        against.append(f"the loss does not fall with {' or '.join(problem.form.axes)} (straight lines in logs rise)")
    if scores:
        least = min(plain, key=lambda one: one.rmse)
        mean, error = difference(scores, least.scores)
        if mean > error or (len(scores) == 1 and mean > 0):
            against.append(
                f"no form predicts the held-out runs better ({predictor or name}: {mean_rmse(scores):.3g} in log loss) "
                f"than the {least.name} ({least.rmse:.3g})"
            )
    chance = chance_of_constant(problem.log_loss, residual, len(problem.form.parameters))
    if chance > MOST_CHANCE:
        against.append(
            f"over all sizes {name} describes the runs no better than a constant does "
            f"(F test: p = {chance:.2g}): the loss does not fall with size, or by less than the runs vary"
        )
    return tuple(against)
