"""Do 90 % intervals hold the truth in 90 % of studies? Simulated studies with a known law, fitted as a user would.

python -m experiments.bench.coverage [--studies S] [--first SEED] [--json FILE] [--quick]

In each study E, alpha, beta and the shares of the two terms are drawn anew; losses get normal noise on their logarithm.
The law chinchilla is fitted to 12, 24 or 60 runs over 2.5 decades of N and of D, and asked for alpha, beta and the loss
at ten times the largest N and D (the width is that of its logarithm). A quantity is flagged where `identify` does not
call it determined or `lack_of_fit` finds the form at fault. The percentile bootstrap of the same refits stands beside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.arrays import FloatArray
from analysis.fitting.law import Law, fit
from analysis.fitting.resampling import interval
from experiments.bench.table import options, publish

LEVEL = 0.9
REPLICATES = 400
DECADES = 2.5
FARTHER = 10.0
SIZES = {12: (4, 4), 24: (6, 4), 60: (10, 6), 120: (12, 10)}
QUANTITIES = ("alpha", "beta", "loss")


@dataclass(frozen=True)
class Truth:
    """A true law: its loss is 1 at the middle of the grid, and a and b are the terms' shares of it there."""

    E: float
    a: float
    alpha: float
    b: float
    beta: float
    gamma: float

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "Truth":
        alpha, beta = generator.uniform(0.25, 0.65, 2)
        floor, share = generator.uniform(0.05, 0.5), generator.uniform(0.3, 0.7)
        gamma = generator.uniform(0.4, 0.7)
        return cls(floor, (1 - floor) * share, alpha, (1 - floor) * (1 - share), beta, gamma)


def chinchilla(law: Truth, n: FloatArray, d: FloatArray) -> FloatArray:
    """E + a / n^alpha + b / d^beta; n and d are 1 at the middle of the grid."""
    return law.E + law.a * n**-law.alpha + law.b * d**-law.beta


def gamma(law: Truth, n: FloatArray, d: FloatArray) -> FloatArray:
    """The terms joined by a power, (x^(1/gamma) + y^(1/gamma))^gamma; gamma = 1 is chinchilla, alpha and beta stay."""
    x, y = law.a * n**-law.alpha, law.b * d**-law.beta
    return np.asarray(law.E + (x ** (1 / law.gamma) + y ** (1 / law.gamma)) ** law.gamma)


def broken(law: Truth, n: FloatArray, d: FloatArray) -> FloatArray:
    """The exponent in D is 0.3 beta below the middle of the grid and beta above."""
    return np.asarray(
        law.E + law.a * n**-law.alpha + law.b * d ** (-0.3 * law.beta) * ((1 + d**4) / 2) ** (-0.7 * law.beta / 4)
    )


Noise = Callable[[np.random.Generator, FloatArray, FloatArray, float], FloatArray]


def normal(generator: np.random.Generator, n: FloatArray, d: FloatArray, size: float) -> FloatArray:
    return size * generator.normal(size=len(n))


def heavy(generator: np.random.Generator, n: FloatArray, d: FloatArray, size: float) -> FloatArray:
    """Student's t with 3 degrees of freedom, scaled to the same standard deviation."""
    return size * generator.standard_t(3, size=len(n)) / np.sqrt(3)


def unequal(generator: np.random.Generator, n: FloatArray, d: FloatArray, size: float) -> FloatArray:
    """Four times larger at the smallest D than at the largest; the geometric mean is `size`."""
    share = (np.log(d) - np.log(d).min()) / np.ptp(np.log(d))
    return np.asarray(size * 2 * 4**-share * generator.normal(size=len(n)))


def shared(generator: np.random.Generator, n: FloatArray, d: FloatArray, size: float) -> FloatArray:
    """As much misfit of each configuration as scatter between its seeds."""
    group = np.unique(np.stack([n, d]), axis=1, return_inverse=True)[1].ravel()
    misfit = generator.normal(size=group.max() + 1)[group]
    return np.asarray(size * (misfit + generator.normal(size=len(n))))


@dataclass(frozen=True)
class Cell:
    """A kind of study."""

    runs: int
    noise: float
    truth: Callable[[Truth, FloatArray, FloatArray], FloatArray] = chinchilla
    scatter: Noise = normal
    seeds: int = 1


GRIDS, NOISES = (12, 24, 60), (0.01, 0.05, 0.15)
TRUE = tuple(Cell(runs, noise) for runs in GRIDS for noise in NOISES)
WRONG = tuple(Cell(runs, noise, gamma) for runs in GRIDS for noise in NOISES)
FURTHER = (
    Cell(24, 0.05, chinchilla, heavy),
    Cell(60, 0.05, chinchilla, heavy),
    Cell(24, 0.05, chinchilla, unequal),
    Cell(60, 0.05, chinchilla, unequal),
    Cell(120, 0.05, chinchilla, normal),
    Cell(120, 0.05, chinchilla, unequal),
    Cell(24, 0.05, chinchilla, shared, seeds=3),
    Cell(60, 0.01, broken),
    Cell(60, 0.05, broken),
)


@dataclass(frozen=True)
class Outcome:
    """One study, each for alpha, beta and the log of the extrapolated loss: (3,) and (2, 3) for intervals."""

    truth: FloatArray
    flagged: NDArray[np.bool_]
    reported: FloatArray
    percentile: FloatArray


def grid(runs: int, seeds: int) -> tuple[FloatArray, FloatArray]:
    """n and d of each run, 1 at the middle; of twelve runs four by four without a diagonal."""
    wide, long = SIZES[runs]
    n, d = (10 ** np.linspace(-DECADES / 2, DECADES / 2, count) for count in (wide, long))
    i, j = np.meshgrid(np.arange(wide), np.arange(long), indexing="ij")
    kept = (i + j != 3).ravel() if runs == 12 else np.full(wide * long, True)
    return np.repeat(n[i.ravel()[kept]], seeds), np.repeat(d[j.ravel()[kept]], seeds)


def study(cell: Cell, seed: int) -> Outcome:
    """Simulate and fit one study."""
    generator = np.random.default_rng([seed, cell.runs, int(1e4 * cell.noise)])
    law = Truth.draw(generator)
    n, d = grid(cell.runs, cell.seeds)
    loss = cell.truth(law, n, d) * np.exp(cell.scatter(generator, n, d, cell.noise))
    table = pd.DataFrame({"num_params": 1e7 * n, "train_structures": 1e5 * d, "test_loss": loss})
    if cell.seeds > 1:
        table["seed"] = np.tile(np.arange(cell.seeds), len(n) // cell.seeds)
    fitted = fit(table, replicates=REPLICATES, seed=seed)
    far = {"N": 1e7 * n.max() * FARTHER, "D": 1e5 * d.max() * FARTHER}
    exponents = [fitted.interval(name, LEVEL) for name in ("alpha", "beta")]
    band = np.log(np.maximum(fitted.band(level=LEVEL, **far)[:, 0], 1e-300))
    truth = cell.truth(law, n.max(keepdims=True) * FARTHER, d.max(keepdims=True) * FARTHER)
    return Outcome(
        np.array([law.alpha, law.beta, np.log(truth[0])]),
        _flags(fitted, far),
        np.array([[one.low for one in exponents] + [band[0]], [one.high for one in exponents] + [band[1]]]),
        _percentile(fitted, far),
    )


def _flags(law: Law, far: dict[str, float]) -> NDArray[np.bool_]:
    verdicts = [*law.verdicts, law.judge_loss(**far)]
    return np.array([not verdict.identified or law.lack_of_fit.significant for verdict in verdicts])


def _percentile(law: Law, far: dict[str, float]) -> FloatArray:
    if law.samples is None:
        raise AssertionError("every study is fitted with a bootstrap")
    names = [estimate.name for estimate in law.params]
    loss = law.form.evaluate(law.samples.theta, law.logs(**far))[0][:, 0] * law.optimum.scale
    values = [law.samples.values[:, names.index(name)] for name in ("alpha", "beta")]
    return interval(np.stack([*values, np.log(loss)], 1), LEVEL)


def rows_of(cell: Cell, outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """A row for the two exponents together, and one for the extrapolated loss."""
    found = []
    for name, columns in (("exponents", [0, 1]), ("loss x10", [2])):
        truth = np.array([outcome.truth[columns] for outcome in outcomes])
        unflagged = ~np.array([outcome.flagged[columns] for outcome in outcomes])
        reported = np.array([outcome.reported[:, columns] for outcome in outcomes])
        percentile = np.array([outcome.percentile[:, columns] for outcome in outcomes])
        missed = unflagged & ~_inside(truth, reported)
        found.append(
            {
                "truth": cell.truth.__name__,
                "scatter": cell.scatter.__name__,
                "noise_percent": 100 * cell.noise,
                "runs": cell.runs * cell.seeds,
                "quantity": name,
                "studies": len(outcomes),
                "flagged_percent": 100 * float(1 - unflagged.mean()),
                "covered_percent": _share(_inside(truth, reported)[unflagged]),
                "missed_percent_of_all": 100 * float(missed.mean()),
                "covered_percent_with_flagged": _share(_inside(truth, reported)),
                "median_width": _median_width(reported, unflagged),
                "percentile_covered_percent": _share(_inside(truth, percentile)[unflagged]),
                "percentile_covered_percent_with_flagged": _share(_inside(truth, percentile)),
                "percentile_median_width": _median_width(percentile, unflagged),
            }
        )
    return found


def _share(inside: NDArray[np.bool_]) -> float | None:
    return 100 * float(inside.mean()) if inside.size else None


def _median_width(ends: FloatArray, unflagged: NDArray[np.bool_]) -> float | None:
    return float(np.median((ends[:, 1] - ends[:, 0])[unflagged])) if unflagged.any() else None


def _inside(truth: FloatArray, ends: FloatArray) -> NDArray[np.bool_]:
    return np.asarray((ends[:, 0] <= truth) & (truth <= ends[:, 1]))


def over_all(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells together, each weighted by what is not flagged in it where only that counts."""
    found = []
    for name in dict.fromkeys(row["quantity"] for row in rows):
        own = [row for row in rows if row["quantity"] == name]
        unflagged = np.array([100 - row["flagged_percent"] for row in own])
        together: dict[str, Any] = {"quantity": f"{name}, all", "studies": sum(row["studies"] for row in own)}
        for key in (
            "flagged_percent",
            "missed_percent_of_all",
            *(key for key in own[0] if key.endswith("with_flagged")),
        ):
            together[key] = float(np.mean([row[key] for row in own]))
        for key in ("covered_percent", "percentile_covered_percent"):
            shares = np.array([row[key] or 0.0 for row in own])
            together[key] = float(shares @ unflagged / max(unflagged.sum(), 1e-9))
        found.append({column: together[column] for column in own[0] if column in together})
    return found


def main() -> None:
    """Simulate every kind of study."""
    parser = options(__doc__)
    parser.add_argument("--studies", type=int, default=60, metavar="S", help="of each kind (default 60)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="seed of the first study (default 0)")
    given = parser.parse_args()
    kinds = {"The form is true": TRUE, "The form is wrong": WRONG, "Further departures": FURTHER}
    work = {title: [(cell, given.studies) for cell in cells] for title, cells in kinds.items()}
    if given.quick:
        work = {title: [(cell, 2) for cell, _ in cells[:2]] for title, cells in work.items()}
    tables = {}
    with tqdm(total=sum(count for cells in work.values() for _, count in cells), desc="studies") as bar:
        for title, cells in work.items():
            rows = []
            for cell, count in cells:
                outcomes = []
                for seed in range(given.first, given.first + count):
                    outcomes.append(study(cell, seed))
                    bar.update()
                rows += rows_of(cell, outcomes)
            tables[title] = rows + ([] if kinds[title] is FURTHER else over_all(rows))
    publish(tables, given.json)


if __name__ == "__main__":
    main()
