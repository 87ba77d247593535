"""What is done, running, waiting, failed, and why: python -m experiments.status studies/NAME [--watch] [--json]

On a cluster, runs and jobs are joined: which job a run waits for or runs in, what SLURM says of it, and why it ended.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.command import command
from scaling.errors import RunError
from scaling.launch import JOBS, job_name, live, slurm
from scaling.runs import STATES, RunDir, Status, log_tail, read_json, run_dirs

WATCH_S = 10.0
NEVER_SUBMITTED = "give the command of the study again"


@dataclass(frozen=True)
class Standing:
    """Where a run stands, and what SLURM says of the job that works on it, is to do so, or last did."""

    status: Status
    job: str = ""
    job_state: str = ""

    def row(self) -> dict[str, Any]:
        """All of it, flat."""
        return {**asdict(self.status), "job": self.job, "job_state": self.job_state}


def standings(runs: Sequence[RunDir]) -> dict[str, Standing]:
    """Runs and jobs joined, by run; runs alone where SLURM does not answer."""
    study_dir = runs[0].path.parent
    found = {run.run_id: Standing(run.status()) for run in runs}
    if not (study_dir / JOBS).is_dir() or not slurm.is_here():
        return found
    try:
        jobs_of = live(study_dir)
    except RunError as error:
        print(f"without SLURM's view: {error}", file=sys.stderr)
        return found
    coming = {run_id: [each.job for each in jobs] for run_id, jobs in jobs_of.items()}
    left = [standing.status.job for standing in found.values() if standing.status.state != "done"]
    last = _last_words(study_dir)
    ended = slurm.accounted(sorted({job for job in left if job}))
    for run_id, standing in found.items():
        status, jobs = standing.status, coming.get(run_id, [])
        own = next((job for job in jobs if job.id == status.job), None)
        if status.state == "done":
            found[run_id] = replace(standing, job=status.job)
        elif status.state == "waiting" and jobs:
            job = own or jobs[0]
            found[run_id] = Standing(status, job.id, _waits(job))
        elif status.job:
            state = own.state if own else ended.get(status.job, "")
            found[run_id] = Standing(_explained(status, state), status.job, state)
        elif status.state == "waiting":
            said = f"no job is on the way, and none has begun it; {last.get(run_id, NEVER_SUBMITTED)}"
            found[run_id] = Standing(replace(status, failure=said))
    return found


def _last_words(study_dir: Path) -> dict[str, str]:
    """What the last job that was to compute a run has left in its log, by run."""
    found = {}
    for listed in sorted((study_dir / JOBS).glob("*/job.json")):
        runs = read_json(listed, lambda it: list(it["runs"]), remedy="remove its folder")
        logs = sorted(listed.parent.glob("*.txt"), key=lambda path: path.stat().st_mtime)
        lines = [line for line in log_tail(logs[-1]).splitlines() if line.strip()] if logs else []
        errors = [line for line in lines if line.startswith(slurm.ERROR)]
        where = f"; see {logs[-1]}" if logs else f"; see {listed.parent}"
        words = (
            f"its last job, {logs[-1].stem}, said: {(errors or lines)[-1].strip()}" if lines else "its job said nothing"
        )
        found.update(dict.fromkeys(runs, words + where))
    return found


def _waits(job: slurm.Job) -> str:
    has_reason = job.state == "PENDING" and job.reason != "None"  # none yet: SLURM has not looked at it
    return f"{job.state} ({job.reason})" if has_reason else job.state


def _explained(status: Status, job_state: str) -> Status:
    """With SLURM's reason, where the run itself had no time to leave one."""
    why = slurm.ENDS.get(job_state, "")
    if not why or status.state == "failed" or status.failure.startswith("stopped"):
        return status
    return replace(status, cause=why, failure=f"{status.failure or 'interrupted'}: {why} (job {status.job})")


def show(found: dict[str, Standing]) -> str:
    """A table for people, and below it the tracebacks of what failed, each once."""
    width = max(map(len, found))
    has_jobs = any(standing.job for standing in found.values())
    lines = []
    for run_id, standing in found.items():
        s = standing.status
        where = f"{s.step}/{s.num_steps}" if s.num_steps else "-"
        job = f"{f'{standing.job} {standing.job_state}':24}  " if has_jobs else ""
        why = s.failure.strip().splitlines()[-1] if s.failure else ""
        lines.append(f"{run_id:{width}}  {s.state:8} {where:>13}  {job}{why}".rstrip())
    tracebacks = Counter(standing.status.traceback for standing in found.values() if standing.status.traceback)
    for traceback, count in tracebacks.items():
        first = next(run_id for run_id, standing in found.items() if standing.status.traceback == traceback)
        lines += ["", f"{first}{f' and {count - 1} more' if count > 1 else ''}:", traceback.rstrip()]
    return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in counts(found).items())])


def counts(found: dict[str, Standing]) -> dict[str, int]:
    """How many runs are in each state."""
    return {state: sum(standing.status.state == state for standing in found.values()) for state in STATES}


def wait(study_dir: Path, runs: Sequence[RunDir]) -> int:
    """Stay until no job is left, showing progress; returns how many runs are not done."""
    with tqdm(total=len(runs), unit="run", desc="jobs", dynamic_ncols=True) as bar:
        while True:
            on_their_way = slurm.live_jobs(job_name(study_dir))
            states = [run.status().state for run in runs]
            bar.update(states.count("done") - bar.n)
            bar.set_postfix_str(", ".join(f"{count} {state}" for state, count in Counter(states).items()))
            if not on_their_way or all(state == "done" for state in states):
                return len(runs) - states.count("done")
            time.sleep(WATCH_S)


def _watch(study_dir: Path) -> None:
    """Draw the table again and again, until nothing is left to wait for."""
    while True:
        found = standings(run_dirs(study_dir))
        lines = show(found).splitlines()
        size = shutil.get_terminal_size()
        if len(lines) >= size.lines:  # the counts stand last
            lines = [*lines[: size.lines - 3], "...", lines[-1]]
        print("\x1b[2J\x1b[H" + "\n".join(line[: size.columns] for line in lines), flush=True)
        has_jobs = (study_dir / JOBS).is_dir() and slurm.is_here() and bool(slurm.live_jobs(job_name(study_dir)))
        if not has_jobs and not any(s.status.state == "running" for s in found.values()):
            return
        time.sleep(WATCH_S)


@command
def main() -> int:
    """Print the standing of every run; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m experiments.status")
    parser.add_argument("study_dir", type=Path, metavar="studies/NAME")
    parser.add_argument("--watch", action="store_true", help="again every few seconds, until nothing runs or waits")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    if arguments.watch:
        _watch(arguments.study_dir)
    found = standings(run_dirs(arguments.study_dir))
    if arguments.json:
        print(json.dumps({"counts": counts(found), "runs": {run_id: s.row() for run_id, s in found.items()}}, indent=1))
    elif not arguments.watch:
        print(show(found))
    return 1 if any(standing.status.state == "failed" for standing in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
