"""A run of two ranks under random kill -9: any of its processes, at any moment, again and again, to the same bits.

python -m experiments.bench.kills [--kills 50] [--seed 0] [--json FILE] [--quick]

One run is left alone. Then the same command is given over and over; each time, after a random while, one random process
of it is killed: the command, the process that holds the run, torchrun, a rank or one of a rank's loaders. Whatever is
left must end by itself. A run that reaches its end must equal the undisturbed one in its result, its metrics and the
bits of its weights; another is begun until there have been as many kills as asked for.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.bench.table import options, publish
from tests.reference.processes import living

SETTINGS = [
    *["launcher.ranks=2", "zero.stage=1", "data.fraction=1.0", "data.num_workers=1", "model.width=8"],
    *["train.batch_size=8", "train.validate_every=100", "train.checkpoint_every=20", "train.num_threads=1"],
]
#: What differs between equal runs.
OF_THE_MACHINE = ("wall_s", "device_hours", "peak_memory_bytes")
#: What is left of a command must have ended by then, or have gone on to the end of the run (where the killed process
#: was not needed for that): this, and a multiple of what an undisturbed run takes.
PATIENCE_S, PATIENCE = 60.0, 5.0


def command(data: Path, root: Path, steps: int) -> list[str]:
    """How the run is started, and started again."""
    where = [f"data.path={data}", f"study.root={root}", "study.name=kills", f"train.budget.amount={steps}"]
    return [sys.executable, "-m", "experiments.train", *SETTINGS, *where]


def start_and_kill(arguments: Sequence[str], rng: random.Random, longest_s: float) -> str | None:
    """Give the command and kill one of its processes; returns which, or None if the command ended before.

    Raises:
        RuntimeError: if a process outlives the command.
    """
    mark = f"KILLS_MARK={uuid.uuid4()}"
    environment = {**os.environ, **dict([mark.split("=")])}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0, longest_s))
    victims = living(mark)
    if process.poll() is not None or not victims:
        return None
    victim, role = rng.choice(sorted(victims.items()))
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    patience_s = PATIENCE_S + PATIENCE * longest_s
    deadline = time.monotonic() + patience_s
    while process.poll() is None or living(mark):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{patience_s:.0f} s after its {role} was killed there still lived {living(mark)}")
        time.sleep(0.05)
    return role


def outcome(root: Path) -> dict[str, Any]:
    """All that a run leaves behind that must not depend on kills."""
    (run,) = [path.parent for path in root.glob("kills/*/config.yaml")]
    result = json.loads((run / "result.json").read_text())
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*.safetensors")}
    assert weights, f"{run} has weights"
    return {
        "result": {key: value for key, value in result.items() if key not in OF_THE_MACHINE},
        "metrics": (run / "metrics.jsonl").read_text(),
        "weights": weights,
    }


def resumed(root: Path) -> list[int]:
    """The steps at which the run went on."""
    logs = [path.read_text(errors="replace") for path in root.glob("kills/*/log.txt")]
    return [int(step) for log in logs for step in re.findall(r"resumed at step (\d+)", log)]


def kill_at_random(data: Path, folder: Path, *, kills: int, steps: int, seed: int) -> dict[str, Any]:
    """Do as the module says.

    Raises:
        RuntimeError: if a disturbed run ends unlike the undisturbed one, loses a checkpoint or leaves a process.
    """
    begin = time.monotonic()
    subprocess.run(command(data, folder / "undisturbed", steps), check=True, stdout=subprocess.DEVNULL)
    longest_s = time.monotonic() - begin
    expected = outcome(folder / "undisturbed")
    rng = random.Random(seed)
    killed: Counter[str] = Counter()
    went_on, runs = 0, 0
    with tqdm(total=kills, unit="kill", desc="kill -9") as bar:
        while bar.n < kills:
            root = folder / f"disturbed-{runs}"
            while bar.n < kills:
                role = start_and_kill(command(data, root, steps), rng, longest_s)
                if role is None:
                    break
                killed[role] += 1
                bar.update()
            subprocess.run(command(data, root, steps), check=True, stdout=subprocess.DEVNULL)
            found = outcome(root)
            unlike = [key for key in expected if found[key] != expected[key]]
            if unlike:
                raise RuntimeError(f"{root} ended with other {', '.join(unlike)} than the undisturbed run")
            steps_resumed = resumed(root)
            if steps_resumed != sorted(steps_resumed):
                raise RuntimeError(f"{root} went on at steps {steps_resumed}: a checkpoint was lost")
            went_on += len(steps_resumed)
            runs += 1
    return {"kills": kills, "runs": runs, "went_on": went_on, "killed": dict(killed)}


def main() -> None:
    """Prepare a little data and kill."""
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, help="how many (default: 50, or 3 if --quick)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    given = parser.parse_args()
    kills = given.kills or (3 if given.quick else 50)
    os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare = [sys.executable, "-m", "experiments.prepare", "source=emt", "source.num_structures=320"]
        subprocess.run([*prepare, f"out={folder / 'data'}"], check=True, stdout=subprocess.DEVNULL)
        steps = 200 if given.quick else 1500
        row = kill_at_random(folder / "data", folder, kills=kills, steps=steps, seed=given.seed)
    publish({"Random kill -9 of a run of two ranks": [row]}, given.json)


if __name__ == "__main__":
    main()
