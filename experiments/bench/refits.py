"""4000 bootstrap refits of a published law: the batched minimiser beside scipy's.

    python -m experiments.bench.refits [DATA] --json FILE

DATA is svg_extracted_data.csv of https://github.com/epoch-research/analyzing-chinchilla (folder data); it has no
licence and is not shipped. Without its five highest losses it is the table of arXiv:2404.10102: 240 runs,
D = C / (6 N). All minimise the same objective, the sum of Huber's function with delta 1e-3, on the same resampled
tables, in turn on one thread, each from the optimum of the whole table; `from projections` starts ours
farther off, at a candidate drawn at random from the 60 best of the start grid. The ratio is one of processor seconds,
which a busy machine disturbs less than the clock. Run it with OMP_NUM_THREADS=1.

The second table draws other replicates, as `fit` does: how far a standard error of 4000 refits depends on the seed,
with Huber's function and with least absolute deviations, the published fit.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize as scipy_minimize
from tqdm import tqdm

from analysis.fitting.descent import minimize
from analysis.fitting.law import fit
from analysis.fitting.optimum import Optimum
from analysis.fitting.resampling import balanced_counts
from analysis.tables import RunTable, load_runs
from experiments.bench.table import options, publish
from scaling.errors import ConfigError

DATA = Path("../shared/data/fits/epoch_chinchilla/svg_extracted_data.csv")
PUBLISHED_SE = {"A": 124.522, "B": 1293.284, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
GTOL = 1e-9
BLOCK = 500
Method = Callable[[slice], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Found:
    """What one minimiser took, by the clock and of the processor, and found: objectives (R,), parameters (R, P)."""

    seconds: float
    processor_seconds: float
    objective: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Scalar:
    """The objective for one replicate, as the literature writes it.

    L = exp(e) + exp(a - alpha log N) + exp(b - beta log D), theta = (e, a, b, alpha, beta). Source: Hoffmann et al.
    2022, eq. 3.
    """

    log_n: np.ndarray
    log_d: np.ndarray
    log_loss: np.ndarray
    delta: float

    def value_and_gradient(self, theta: np.ndarray, counts: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum of the objective and its derivatives."""
        floor = np.full_like(self.log_n, np.exp(theta[0]))
        by_n, by_d = np.exp(theta[1] - theta[3] * self.log_n), np.exp(theta[2] - theta[4] * self.log_d)
        loss = floor + by_n + by_d
        residual = np.log(loss) - self.log_loss
        size = np.abs(residual)
        inside = np.minimum(size, self.delta)
        pull = counts * np.clip(residual, -self.delta, self.delta) / loss
        gradient = np.array(
            [pull @ floor, pull @ by_n, pull @ by_d, -(pull * by_n) @ self.log_n, -(pull * by_d) @ self.log_d]
        )
        return float(counts @ (inside * (size - 0.5 * inside))), gradient


def main() -> int:
    """Refit with each, print one table."""
    parser = options(__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA, help=f"the CSV (default {DATA})")
    chosen = parser.parse_args()
    if not chosen.data.exists():
        print(
            f"error: {chosen.data} does not exist; get data/svg_extracted_data.csv from "
            "https://github.com/epoch-research/analyzing-chinchilla and name it",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    table = load_runs(chosen.data, num_params="Model Size", flops="Training FLOP", loss="loss").drop_highest(5)
    replicates = 100 if chosen.quick else 4000
    optimum = fit(table, "chinchilla", delta=1e-3, replicates=0).optimum
    num_runs = len(table)
    counts = balanced_counts(num_runs, replicates, np.random.default_rng(0))
    scalar, start = _literature(optimum)
    candidates = np.random.default_rng(0).integers(1, 61, replicates)
    bfgs = f"BFGS, gtol {GTOL:g}"
    methods: dict[str, Method] = {
        "batched (ours)": lambda part: _batched(optimum, counts[part], optimum.theta[None]),
        "batched (ours), from projections": lambda part: _batched(
            optimum, counts[part], optimum.candidates[candidates[part]]
        ),
        bfgs: lambda part: _scipy(scalar, start, counts[part], "BFGS", {"gtol": GTOL, "maxiter": 10_000}),
        "L-BFGS-B, default tolerances": lambda part: _scipy(scalar, start, counts[part], "L-BFGS-B", {}),
    }
    found = _in_turn(methods, replicates)
    rows = [_row(name, found, found[bfgs]) for name in found]
    tables = {
        f"{replicates} refits of {num_runs} runs, five parameters": rows,
        "Standard errors over the published ones, by seed": [
            row
            for objective, delta in (("huber", 1e-3), ("lad", None))
            for row in _seeds(table, objective, delta, replicates, 3 if chosen.quick else 20)
        ],
    }
    publish(tables, chosen.json)
    return 0


def _in_turn(methods: dict[str, Method], replicates: int) -> dict[str, Found]:
    """All methods take turns, block by block, so that a busy machine is busy for each of them."""
    parts: dict[str, list[Found]] = {name: [] for name in methods}
    for first in tqdm(range(0, replicates, BLOCK), desc="blocks", leave=False):
        for name, method in methods.items():
            wall, processor = time.perf_counter(), time.process_time()
            objective, values = method(slice(first, first + BLOCK))
            times = time.perf_counter() - wall, time.process_time() - processor
            parts[name].append(Found(*times, objective, values))
    return {
        name: Found(
            sum(one.seconds for one in found),
            sum(one.processor_seconds for one in found),
            np.concatenate([one.objective for one in found]),
            np.concatenate([one.values for one in found]),
        )
        for name, found in parts.items()
    }


def _batched(optimum: Optimum, counts: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.broadcast_to(start, (len(counts), start.shape[1]))
    ends = minimize(optimum.problem, optimum.objective, counts, starts)
    return ends.objective, optimum.problem.form.public(ends.theta, optimum.centre, optimum.scale)


def _seeds(table: RunTable, objective: str, delta: float | None, replicates: int, seeds: int) -> list[dict[str, Any]]:
    ratios = []
    for seed in tqdm(range(seeds), desc=f"seeds, {objective}", leave=False):
        law = fit(table, "chinchilla", objective=objective, delta=delta, replicates=replicates, seed=seed)
        ratios.append([(law[key].se or np.nan) / published for key, published in PUBLISHED_SE.items()])
    columns = dict(zip(PUBLISHED_SE, np.array(ratios).T, strict=True))
    return [
        {
            "objective": objective,
            "parameter": key,
            "seeds": seeds,
            "lowest": float(ratio.min()),
            "median": float(np.median(ratio)),
            "highest": float(ratio.max()),
            "seed_0": float(ratio[0]),
            "within_10_percent": int((np.abs(ratio - 1) <= 0.1).sum()),
        }
        for key, ratio in columns.items()
    ]


def _literature(optimum: Optimum) -> tuple[Scalar, np.ndarray]:
    problem = optimum.problem
    log_n, log_d = problem.logs + optimum.centre[:, None]
    scalar = Scalar(log_n, log_d, problem.log_loss + np.log(optimum.scale), optimum.objective.delta)
    floor, a, b, alpha, beta = problem.form.public(optimum.theta[None], optimum.centre, optimum.scale)[0]
    return scalar, np.array([np.log(floor), np.log(a), np.log(b), alpha, beta])


def _scipy(
    scalar: Scalar, start: np.ndarray, counts: np.ndarray, method: str, settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    function = scalar.value_and_gradient
    ends = [scipy_minimize(function, start, args=(row,), jac=True, method=method, options=settings) for row in counts]
    values = np.array([end.x for end in ends])
    values[:, :3] = np.exp(values[:, :3])  # E, A, B, alpha, beta, as the form has them
    return np.array([end.fun for end in ends]), values


def _row(name: str, found: dict[str, Found], bfgs: Found) -> dict[str, Any]:
    one = found[name]
    excess = one.objective / bfgs.objective - 1
    errors = one.values.std(0, ddof=1)[[1, 2, 0, 3, 4]]
    return {
        "minimiser": name,
        "seconds": one.seconds,
        "processor_seconds": one.processor_seconds,
        "times_as_fast_as_bfgs": bfgs.processor_seconds / one.processor_seconds,
        "worst_excess_over_bfgs": float(excess.max()),
        "mean_excess_over_bfgs": float(excess.mean()),
        "worse_by_1e_8": int((excess > 1e-8).sum()),
        "better_by_1e_8": int((excess < -1e-8).sum()),
        **{
            f"se_{key}_over_published": float(error / published)
            for error, (key, published) in zip(errors, PUBLISHED_SE.items(), strict=True)
        },
    }


if __name__ == "__main__":
    sys.exit(main())
