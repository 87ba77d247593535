"""What to run next, in a closed loop: does `analysis next` narrow a far prediction more than what one would do without?

Synthetic truths of four kinds, in equal parts: chinchilla; chinchilla without a floor; chinchilla whose D matters a
quarter as much; and a power of the sum (form gamma with gamma 0.7 to 1.4), which the fitted form, chinchilla, cannot
follow. Each begins with 4 x 4 runs of sizes a factor 4 apart; wanted is the log loss at 10 times the largest N and D.
Every way may add 5 runs, and spend on them together BUDGET times the largest run of the start (C = 6 N D):

    design              analysis.next_runs, one run at a time, refitted after each with its noisy result
    next larger model   one grid step along the ray (4 N, 4 D), then larger as the budget pays, else the same again
    half steps          2 N, 2 D; then 4 N, 4 D; then the largest of them that is still paid for
    random              5 of the design's own candidates, drawn until they cost 80 to 100 % of the budget

No way may begin a run that the rest of its budget does not pay. A repeated size gets another seed, so that its runs
count as one configuration. Widths and errors are of the log loss at the target; `width` is that of the interval
that `analysis fit` gives, `covered` its share of truths inside; `linear` is the same by first-order theory. `rms_error`
is that of the truths which the form can follow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import t as student
from tqdm import tqdm

from analysis import fit, load_runs
from analysis.compute.cost import measure_cost
from analysis.design.advice import next_runs
from analysis.design.candidates import own_grid
from analysis.design.information import log_width, state_of
from analysis.design.targets import find_target
from analysis.fitting.law import Law
from experiments.bench.table import options, publish

STEP = 4.0
NUM_PARAMS = 1e5 * STEP ** np.arange(4)
DATA = 1e6 * STEP ** np.arange(4)
CENTRE = np.sqrt(NUM_PARAMS[0] * NUM_PARAMS[-1]), np.sqrt(DATA[0] * DATA[-1])
FAR = 10.0
TARGET = {"N": FAR * NUM_PARAMS[-1], "D": FAR * DATA[-1]}
LARGEST = 6.0 * NUM_PARAMS[-1] * DATA[-1]
ADDED = 5
NOISES = (0.02, 0.08)
BUDGETS = (20.0, 40.0)  # times the largest run of the start; the run that is wanted would cost 100
REPLICATES = 100  # of the refits between two runs; the interval that is scored needs none

Truth = Callable[[float, float], float]


@dataclass
class Study:
    """Runs made so far and what is left of the budget; the same noise meets every way."""

    truth: Truth
    noise: float
    seed: int
    left: float
    rows: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.normal = np.random.default_rng([self.seed, 1]).normal(size=len(NUM_PARAMS) * len(DATA) + ADDED)
        for n in NUM_PARAMS:
            for d in DATA:
                self._run(n, d)

    def add(self, n: float, d: float) -> None:
        self.left -= 6.0 * n * d
        if self.left < -1e-6 * LARGEST:
            raise RuntimeError(f"a run of N = {n:g}, D = {d:g} is beyond the budget")
        self._run(n, d)

    def _run(self, n: float, d: float) -> None:
        loss = self.truth(n, d) * np.exp(self.noise * self.normal[len(self.rows)])
        seed = sum(row["num_params"] == n and row["train_structures"] == d for row in self.rows)
        row = {"num_params": n, "train_structures": d, "test_loss": loss, "seed": seed, "number": len(self.rows)}
        self.rows.append(row)

    def law(self, replicates: int) -> Law:
        return fit(load_runs(pd.DataFrame(self.rows)), replicates=replicates)


def truths(count: int) -> Iterator[Truth]:
    """Laws of four kinds in turn, a loss of about 1 in the middle of the first grid."""
    generator = np.random.default_rng(0)
    for index in range(count):
        alpha, beta = generator.uniform(0.2, 0.6, 2)
        floor, a, b = generator.uniform(0.1, 0.6), *generator.uniform(0.3, 1.0, 2)
        gamma = 1.0
        if index % 4 == 1:
            floor = 0.0
        elif index % 4 == 2:
            b *= 0.25
        elif index % 4 == 3:
            gamma = generator.uniform(0.7, 1.4)
        yield partial(_loss, floor, a, alpha, b, beta, gamma)


def _loss(
    floor: float, a: float, alpha: float, b: float, beta: float, gamma: float, num_params: float, data_size: float
) -> float:
    terms = a * (num_params / CENTRE[0]) ** -alpha + b * (data_size / CENTRE[1]) ** -beta
    return float(floor + terms**gamma)


def by_design(study: Study) -> None:
    for taken in range(ADDED):
        if study.left < 6.0 * NUM_PARAMS[0] * DATA[0]:
            return
        chosen = next_runs(study.law(REPLICATES), budget=study.left, count=ADDED - taken, **TARGET)
        study.add(*chosen.recommended.runs[0].sizes.values())


def along_ray(step: float) -> Callable[[Study], None]:
    def way(study: Study) -> None:
        place = 1
        for _ in range(ADDED):
            while place and 6.0 * NUM_PARAMS[-1] * DATA[-1] * step ** (2 * place) > study.left * (1 + 1e-9):
                place -= 1
            if not place:
                return
            study.add(NUM_PARAMS[-1] * step**place, DATA[-1] * step**place)
            place += 1

    return way


def at_random(study: Study) -> None:
    table = study.law(0).table
    found = own_grid(table, ("N", "D"), measure_cost(table).price, study.left, TARGET)
    generator = np.random.default_rng([study.seed, 2])
    while True:
        picked = generator.integers(len(found), size=ADDED)
        if 0.8 * study.left <= found.costs[picked].sum() <= study.left:
            break
    for row in picked:
        study.add(found.sizes["N"][row], found.sizes["D"][row])


WAYS: dict[str, Callable[[Study], None]] = {
    "nothing added": lambda study: None,
    "design": by_design,
    "next larger model": along_ray(STEP),
    "half steps": along_ray(STEP**0.5),
    "random": at_random,
}


def score(study: Study) -> tuple[float, float, bool, float, bool]:
    """Width, error, covered, width by first-order theory, covered by that."""
    law = study.law(0)
    low, high = np.log(law.band(**TARGET)[:, 0])
    truth = np.log(study.truth(TARGET["N"], TARGET["D"]))
    error = abs(float(np.log(law.predict(**TARGET)[0])) - truth)
    sizes = {axis: np.array([size]) for axis, size in TARGET.items()}
    state = state_of(law, find_target(law, "loss", TARGET, None), sizes)
    half = float(student.ppf(0.975, law.uncertainty.noise.freedom)) * float(np.exp(log_width(state.variance)))
    return high - low, error, bool(low <= truth <= high), 2 * half, error <= half


def main() -> None:
    """Every way on every truth, at two noises and two budgets."""
    parser = options(__doc__)
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, help="in costs of the start's largest run")
    given = parser.parse_args()
    count = 4 if given.quick else given.truths
    cases = [(noise, budget) for budget in given.budgets for noise in NOISES][: 1 if given.quick else None]
    rows = []
    with tqdm(total=len(cases) * len(WAYS) * count, unit="study") as bar:
        for noise, budget in cases:
            for name, way in WAYS.items():
                scores, spent, added = [], [], []
                for seed, truth in enumerate(truths(count)):
                    study = Study(truth, noise, seed, budget * LARGEST)
                    way(study)
                    scores.append(score(study))
                    spent.append(budget - study.left / LARGEST)
                    added.append(len(study.rows) - len(NUM_PARAMS) * len(DATA))
                    bar.update()
                width, error, covered, linear, linear_covered = np.array(scores, dtype=float).T
                misfit = np.arange(count) % 4 == 3
                rows.append(
                    {
                        "noise_percent": 100 * noise,
                        "budget": budget,
                        "way": name,
                        "mean_runs_added": float(np.mean(added)),
                        "mean_cost": float(np.mean(spent)),
                        "median_width": float(np.median(width)),
                        "covered_percent": 100 * float(covered.mean()),
                        "median_error": float(np.median(error)),
                        "rms_error": float(np.sqrt((error[~misfit] ** 2).mean())),
                        "rms_error_misspecified": float(np.sqrt((error[misfit] ** 2).mean())),
                        "median_linear_width": float(np.median(linear)),
                        "linear_covered_percent": 100 * float(linear_covered.mean()),
                    }
                )
    publish({f"What to run next, {count} truths a row": rows}, given.json)


if __name__ == "__main__":
    main()
