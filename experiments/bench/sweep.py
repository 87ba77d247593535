"""A sweep of a thousand runs that compute next to nothing, on the SLURM of this machine: what is left is overhead.

python -m experiments.bench.sweep [--json FILE] [--runs 1000] [--jobs 4] [--folder DIR]

It submits the study, asks for its status all the while as a watching user does, and collects it. `seconds_per_run` is
the time of all jobs over the number of runs, imports and idle ends included; `controller_*` are differences of what
`sdiag` counts, over the whole bench. Without a SLURM at hand: tests/slurm/slurm_up.sh (root, Debian).
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.bench.table import options, publish
from scaling.launch import job_name, slurm
from scaling.runs import run_dirs

POLL_S = 10.0


def controller() -> dict[str, float]:
    """What the controller has done since it was started: requests, their time, and cycles of its scheduler."""
    said = slurm.ask("sdiag")
    calls = re.findall(
        r"^\s+(?:REQUEST|MESSAGE)_\w+\s+\(.*?\) count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)", said, re.M
    )
    cycles = re.search(r"Total cycles:\s+(\d+)", said)
    return {
        "controller_requests": float(sum(int(count) for count, _ in calls)),
        "controller_busy_s": sum(int(total) for _, total in calls) / 1e6,
        "controller_cycles": float(cycles[1]) if cycles else 0.0,
    }


def run(module: str, *arguments: str) -> float:
    """Seconds that a command takes."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def sweep(folder: Path, runs: int, jobs: int) -> dict[str, Any]:
    """Submit, watch, collect."""
    data, study = folder / "data", folder / "sweep"
    run("experiments.prepare", "source=emt", "source.num_structures=60", f"out={data}")
    grid = [
        "-m",
        f"seed=range({runs})",
        "model.width=2",
        "model.depth=1",
        "train.budget.amount=1",
        "train.batch_size=1",
    ]
    where = [f"data.path={data}", f"study.root={folder}", "study.name=sweep", "data.val_share=0.2"]
    site = ["launcher=slurm_cpu", "launcher.slurm.cpus_per_rank=1", "launcher.slurm.mem_gb_per_rank=1"]
    before = controller()
    submitted_s = run("experiments.train", *grid, *where, *site, f"launcher.slurm.jobs={jobs}")
    begin, statuses = time.monotonic(), []
    while slurm.live_jobs(job_name(study)):
        statuses.append(run("experiments.status", str(study), "--json"))
        time.sleep(POLL_S)
    finished_s = time.monotonic() - begin
    collected_s = run("experiments.collect", str(study))
    after = controller()
    table = pd.read_parquet(study / "runs.parquet")
    if not (table["status"] == "done").all():
        raise RuntimeError(f"not all runs are done: {table['status'].value_counts().to_dict()}")
    arrays = sorted({run.status().job.partition("_")[0] for run in run_dirs(study)})
    elapsed = slurm.ask("sacct", "-X", "-n", "-P", f"-j{','.join(arrays)}", "-oElapsedRaw").split()
    return {
        "runs": runs,
        "jobs": jobs,
        "seconds_to_submit": submitted_s,
        "seconds_to_finish": finished_s,
        "seconds_per_run": sum(map(int, elapsed)) / runs,
        "seconds_per_run_in_itself": float(table["wall_s"].mean()),
        "seconds_of_a_status": max(statuses),
        "seconds_to_collect": collected_s,
        **{key: after[key] - before[key] for key in before},
    }


def main() -> None:
    """One row."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where all nodes can see it (default: a temporary directory)")
    given = parser.parse_args()
    runs = 20 if given.quick else given.runs
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        publish({"A sweep on SLURM": [sweep(Path(name), runs, given.jobs)]}, given.json)


if __name__ == "__main__":
    main()
