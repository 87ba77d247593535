"""What a trained run is good for, by the metrics of OC20: python -m experiments.evaluate studies/NAME/RUN

S2EF: energies and forces of the test set. IS2RS: structures of the test set relaxed by the network, judged by what
labelled the data, where that is at hand (EMT, xTB). docs/evaluation.md says what each number means.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command import command
from scaling.data import ShardSet, choose
from scaling.errors import ConfigError
from scaling.runs import write_json
from scaling.training import require_own_data
from scaling.use import FMAX, MAX_STEPS, TrainedPotential, atoms_of, is2rs, oracle_of, require_same_labels, s2ef

RESULT = "evaluation.json"
#: Structures on which an oracle is compared with the stored labels.
NUM_COMPARED = 8


@dataclass(frozen=True)
class Starts:
    """What is relaxed: the number of structures of the test set; the width of the normal that displaces each atom."""

    relax: int
    rattle: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("relax", "rattle", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name} {getattr(self, name)} must not be negative")


def evaluate(path: Path, starts: Starts, *, device: str | None = None) -> dict[str, Any]:
    """All that is written down of a run.

    Raises:
        RunError: if the run is not done, or its data have changed.
        DataError: if the data are not there, or the oracle does not give their labels again.
    """
    potential = TrainedPotential(path, device=device)
    shards = ShardSet(potential.config.data.path)
    require_own_data(potential.run, potential.config, shards.manifest.digest)
    test = choose(potential.config.data, shards, potential.config.train.labels)[0].test
    found: dict[str, Any] = {
        "run_id": potential.run.run_id,
        "data_digest": shards.manifest.digest,
        "device": str(potential.device),
        "s2ef": asdict(s2ef(potential, shards, test, show=True)),
    }
    if not starts.relax:
        return found
    rng = np.random.default_rng(starts.seed)
    chosen = rng.permutation(test)[: starts.relax]
    systems = [atoms_of(shards.read(int(index))) for index in chosen]
    for atoms in systems:
        atoms.positions += starts.rattle * rng.normal(size=(len(atoms), 3))
    oracle = oracle_of(shards.manifest)
    if oracle is not None:
        require_same_labels(oracle, shards, chosen[:NUM_COMPARED])
    relaxed = is2rs(systems, shards.group[chosen], potential, oracle, show=True)
    settings = {"rattle_ang": starts.rattle, "seed": starts.seed, "fmax_ev_per_ang": FMAX, "max_steps": MAX_STEPS}
    judged = {"oracle": shards.manifest.source.name if oracle else None}
    return {**found, "is2rs": {**judged, **settings, **asdict(relaxed)}}


def show(found: dict[str, Any]) -> str:
    """A table for people."""
    s = found["s2ef"]
    lines = [
        f"S2EF, {s['num_structures']} test structures of {s['num_groups']} groups",
        f"  energy MAE    {_said(s['energy_mae_ev'], '.4f')} eV",
        f"  force MAE     {_said(s['force_mae_ev_per_ang'], '.4f')} eV/angstrom",
        f"  force cosine  {_said(s['force_cosine'], '.4f')}",
        f"  EFwT          {_said(s['efwt'], '.1%')}",
    ]
    if "is2rs" not in found:
        return "\n".join(lines)
    r = found["is2rs"]
    lines += [
        f"IS2RS, {r['num_structures']} of them, of {r['num_groups']} groups, rattled by {r['rattle_ang']:g} angstrom",
        f"  relaxed by the network to {r['fmax_ev_per_ang']:g} eV/angstrom: {r['converged']} converged, "
        f"{r['unconverged']} not within {r['max_steps']} steps, {r['failed']} failed",
    ]
    if r["oracle"] is None:
        return "\n".join([*lines, "  no AFbT and no ADwT: what labelled these data cannot be asked here"])
    rows = {"AFbT": ("start_afbt", "afbt", "oracle_afbt"), "ADwT": ("start_adwt", "adwt", None)}
    lines.append(f"  {'':6}{'before':>18}{'by the network':>18}{'by ' + r['oracle']:>18}")
    for name, keys in rows.items():
        lines.append(f"  {name:6}" + "".join(f"{_said(r[key], '.1%') if key else '':>18}" for key in keys))
    if r["num_targets"] < r["num_structures"]:
        left_out = r["num_structures"] - r["num_targets"]
        lines.append(f"  ADwT leaves out {left_out} structures that {r['oracle']} itself could not relax")
    return "\n".join(lines)


def _said(found: dict[str, float | None] | None, form: str) -> str:
    if found is None:
        return "-"
    value, se = found["value"], found["se"]
    return f"{value:{form}}" + (f" +- {se:{form}}" if se is not None else "")


@command
def main() -> int:
    """Evaluate one run; the same command again makes the same numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m experiments.evaluate", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, metavar="studies/NAME/RUN")
    parser.add_argument("--relax", type=int, default=100, metavar="N", help="relax N structures; 0: none (100)")
    parser.add_argument("--rattle", type=float, default=0.0, metavar="A", help="displace them first, angstrom (0)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the displacements (0)")
    parser.add_argument("--device", help="cpu or cuda (the GPU if there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"in place of studies/NAME/RUN/{RESULT}")
    arguments = parser.parse_args()
    starts = Starts(arguments.relax, arguments.rattle, arguments.seed)
    if arguments.json and not arguments.json.parent.is_dir():
        raise ConfigError(f"--json {arguments.json}: there is no directory {arguments.json.parent}")
    found = evaluate(arguments.run_dir, starts, device=arguments.device)
    print(show(found))
    write_json(arguments.json or arguments.run_dir / RESULT, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
