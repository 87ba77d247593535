"""Train one run, or a whole study: python -m experiments.train study=quickstart

Hydra composes, and no more: every run of the grid is validated, named and written down before the first one starts.
Then they are computed: what is done is skipped, what was broken off goes on, what failed is tried again.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from experiments.command import command, compose
from experiments.status import wait
from scaling.config import RunConfig
from scaling.data.shards import ShardSet
from scaling.data.split import choose
from scaling.errors import ConfigError
from scaling.launch.pool import run_all, slots
from scaling.launch.submit import job_name, submit
from scaling.runs.identity import run_id
from scaling.runs.store import RunDir
from scaling.runs.study import hold_together


def stage(configs: Sequence[RunConfig]) -> list[RunDir]:
    """Name every run and write its configuration down; dear runs first, so that cheap ones fill the gaps at the end.

    Raises:
        ScalingError: if the data is missing, or the study holds runs that are not comparable with these.
    """
    for config in configs:
        graph, ranks = config.parallel.graph, config.launcher.ranks
        if ranks % graph:
            raise ConfigError(f"parallel.graph={graph} must be a divisor of launcher.ranks={ranks}")
    shards = {config.data.path: ShardSet(config.data.path) for config in configs}
    directories = {Path(config.study.root) / config.study.name for config in configs}
    digests = {opened.manifest.digest for opened in shards.values()}
    if len(directories) > 1 or len(digests) > 1:
        raise ConfigError("data.path and study.name cannot be swept: a study has one name and one data set")
    for data in {config.data for config in configs}:
        choose(data, shards[data.path])
    (study_dir,), (digest,) = directories, digests
    if any(config.model.num_params for config in configs):
        from scaling.models.counting import with_width  # brings torch, which takes seconds

        num_elements = len(next(iter(shards.values())).manifest.elements)
        configs = [replace(config, model=with_width(config.model, num_elements)) for config in configs]
    staged: dict[str, tuple[RunDir, RunConfig]] = {}
    for config in _by_cost(configs):
        run = RunDir(study_dir / run_id(config, digest))
        if run.run_id in staged:
            raise ConfigError(
                f"two cells of the grid are the same run {run.run_id}: they name a value twice, or differ only "
                "in what does not change the result (ranks, ZeRO stage, micro-batches); compare those under different "
                "study.name"
            )
        staged[run.run_id] = run, config
    hold_together(study_dir, configs, digest)
    for run, config in staged.values():
        is_planned = config.zero.auto or config.launcher.ranks == 0
        run.stage(_fitted(config, run) if is_planned else config)
    return [run for run, _ in staged.values()]


def _by_cost(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The dearest run first."""
    if len({config.model.name for config in configs}) == 1:
        return sorted(configs, key=lambda c: (c.model.width * c.model.depth, c.data.fraction), reverse=True)
    from scaling.models.counting import training_flops  # brings torch, which takes seconds

    def cost(config: RunConfig) -> tuple[float, float]:
        return training_flops(config.model, num_atoms=1, num_edges=10), config.data.fraction

    return sorted(configs, key=cost, reverse=True)


def _fitted(config: RunConfig, run: RunDir) -> RunConfig:
    from scaling.planning import fitted  # brings torch, which takes seconds

    begun_at = run.config().zero.stage if any(run.checkpoints.glob("step-*")) else None
    launcher = config.launcher
    if launcher.kind == "slurm":
        side_by_side = max(1, launcher.workers) if launcher.slurm.gpus_per_rank else 1  # they share its GPUs
    else:
        side_by_side = max(Counter(slots(config)).values())
    return fitted(config, begun_at=begun_at, side_by_side=side_by_side)


def execute(runs: Sequence[RunDir], config: RunConfig) -> int:
    """Compute what is not done, showing progress; returns how many runs failed."""
    # SIGTERM interrupts it as Ctrl-C does: runs stop behind a checkpoint.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    todo = []
    for run in runs:
        if run.status().state == "done":
            run.tidy()
        else:
            run.try_again()
            todo.append(run)
    print(f"{runs[0].path.parent}: {len(runs)} runs, {len(runs) - len(todo)} done already", flush=True)
    if not todo:
        return 0
    failed = 0
    started = time.monotonic()
    with tqdm(total=len(todo), unit="run", desc="training", dynamic_ncols=True) as bar:
        for event in run_all(todo, slots=slots(config), threads=config.train.num_threads):
            if event.run is None:
                bar.set_postfix_str(_progress(todo))
                continue
            if event.state == "done":
                result = event.run.result()
                bar.write(f"  done    {event.run.run_id}  test loss {result.test_loss:.4f}  {result.wall_s:.0f} s")
            else:
                failed += 1
                why = [line for line in event.failure.splitlines() if line.strip()]
                bar.write(f"  FAILED  {event.run.run_id}  {why[-1] if why else 'for no reason given'}")
            bar.update(1)
    print(f"{len(todo) - failed} runs done, {failed} failed, {time.monotonic() - started:.0f} s")
    return failed


def send(runs: Sequence[RunDir], config: RunConfig) -> int:
    """Submit what no job is on the way to, and return at once, or with launcher.slurm.wait when all jobs have ended.

    Returns how many runs are not done although their jobs have ended.
    """
    study_dir = runs[0].path.parent
    done = sum(run.status().state == "done" for run in runs)
    arrays = submit(runs)
    said = ", ".join(arrays) or "nothing"
    if not arrays and done < len(runs):
        said += ": jobs are on the way to the others, with the options that they were submitted with"
    print(f"{study_dir}: {len(runs)} runs, {done} done already; submitted: {said}", flush=True)
    if done < len(runs):
        print(f"to watch: python -m experiments.status {study_dir} --watch")
        print(f"to end:   scancel --name={job_name(study_dir)}", flush=True)
    if config.launcher.slurm.wait and (left := wait(study_dir, runs)):
        print(f"{left} runs are not done; why: python -m experiments.status {study_dir}")
        return left
    return 0


def _progress(runs: Sequence[RunDir]) -> str:
    statuses = [run.status() for run in runs]
    running = [s for s in statuses if s.state == "running" and s.num_steps]
    return ", ".join(f"{s.step}/{s.num_steps}" for s in running) + " steps" if running else "starting"


@command
def main() -> int:
    """Compose, stage, compute; exit code 0 only if every run is done, or with launcher=slurm on its way."""
    configs = compose()
    if not configs:  # --help, --cfg and the like
        return 0
    compute = {"local": execute, "slurm": send}[configs[0].launcher.kind]
    return 1 if compute(stage(configs), configs[0]) else 0


if __name__ == "__main__":
    sys.exit(main())
