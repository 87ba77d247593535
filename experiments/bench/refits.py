"""4000 bootstrap refits of a published law: the batched minimiser beside scipy's.

    python -m experiments.bench.refits [DATA] --json FILE

DATA is svg_extracted_data.csv of https://github.com/epoch-research/analyzing-chinchilla (folder data); it has no
licence and is not shipped. Without its five highest losses it is the table of arXiv:2404.10102: 240 runs,
D = C / (6 N). All minimise the same objective, the sum of Huber's function with delta 1e-3, on the same resampled
tables, one after the other on one thread, each from the optimum of the whole table; `from projections` starts ours
farther off, at a candidate drawn at random from the 60 best of the start grid. Run it with OMP_NUM_THREADS=1.

The second table draws other replicates: how far a standard error of 4000 refits depends on the seed.
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

from analysis.fit import fit
from analysis.minimize import minimize
from analysis.optimum import Optimum
from analysis.tables import load_runs
from experiments.bench.table import options, publish
from scaling.errors import ConfigError

DATA = Path("../shared/data/fits/epoch_chinchilla/svg_extracted_data.csv")
PUBLISHED_SE = {"A": 124.522, "B": 1293.284, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
GTOL = 1e-9


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
    counts = np.random.default_rng(0).multinomial(num_runs, np.full(num_runs, 1 / num_runs), replicates).astype(float)

    at_optimum = np.repeat(optimum.theta[None], replicates, axis=0)
    bank = optimum.candidates[np.random.default_rng(0).integers(1, 61, replicates)]
    found = {
        "batched (ours)": _batched(optimum, counts, at_optimum),
        "batched (ours), from projections": _batched(optimum, counts, bank),
    }

    scalar, start = _literature(optimum)
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        f"BFGS, gtol {GTOL:g}": ("BFGS", {"gtol": GTOL, "maxiter": 10_000}),
        "L-BFGS-B, default tolerances": ("L-BFGS-B", {}),
    }
    for name, (method, settings) in methods.items():
        found[name] = _scipy(scalar, start, counts, method, settings)
    bfgs = next(name for name in found if name.startswith("BFGS"))
    rows = [_row(name, found, found[bfgs]) for name in found]
    tables = {
        f"{replicates} refits of {num_runs} runs, five parameters": rows,
        "Standard errors over the published ones, by seed": _seeds(optimum, replicates, 3 if chosen.quick else 20),
    }
    publish(tables, chosen.json)
    return 0


def _batched(optimum: Optimum, counts: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    began = time.perf_counter()
    ends = minimize(optimum.problem, optimum.objective, counts, start)
    seconds = time.perf_counter() - began
    return seconds, ends.objective, optimum.problem.form.public(ends.theta, optimum.centre, optimum.scale)


def _seeds(optimum: Optimum, replicates: int, seeds: int) -> list[dict[str, Any]]:
    num_runs = len(optimum.problem.log_loss)
    start = np.repeat(optimum.theta[None], replicates, axis=0)
    ratios = []
    for seed in tqdm(range(seeds), desc="seeds", leave=False):
        drawn = np.random.default_rng(seed).multinomial(num_runs, np.full(num_runs, 1 / num_runs), replicates)
        errors = _batched(optimum, drawn.astype(float), start)[2].std(0, ddof=1)
        names = [parameter.name for parameter in optimum.problem.form.parameters]
        ratios.append([errors[names.index(key)] / published for key, published in PUBLISHED_SE.items()])
    columns = dict(zip(PUBLISHED_SE, np.array(ratios).T, strict=True))
    return [
        {
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
) -> tuple[float, np.ndarray, np.ndarray]:
    thetas, objective = [], []
    function: Callable[..., tuple[float, np.ndarray]] = scalar.value_and_gradient
    began = time.perf_counter()
    for row in tqdm(counts, desc=method, leave=False):
        end = scipy_minimize(function, start, args=(row,), jac=True, method=method, options=settings)
        thetas.append(end.x)
        objective.append(end.fun)
    seconds = time.perf_counter() - began
    values = np.array(thetas)
    values[:, :3] = np.exp(values[:, :3])  # E, A, B, alpha, beta, as the form has them
    return seconds, np.array(objective), values


def _row(
    name: str, found: dict[str, tuple[float, np.ndarray, np.ndarray]], bfgs: tuple[float, np.ndarray, np.ndarray]
) -> dict[str, Any]:
    seconds, objective, values = found[name]
    excess = objective / bfgs[1] - 1
    errors = dict(zip(PUBLISHED_SE, values.std(0, ddof=1)[[1, 2, 0, 3, 4]], strict=True))
    return {
        "minimiser": name,
        "seconds": seconds,
        "times_as_fast_as_bfgs": bfgs[0] / seconds,
        "worst_excess_over_bfgs": float(excess.max()),
        "mean_excess_over_bfgs": float(excess.mean()),
        "worse_by_1e_8": int((excess > 1e-8).sum()),
        "better_by_1e_8": int((excess < -1e-8).sum()),
        **{f"se_{key}_over_published": float(error / PUBLISHED_SE[key]) for key, error in errors.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
