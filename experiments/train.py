"""Train one run, or a whole study: python -m experiments.train study=quickstart

Hydra composes, and no more: every run of the grid is validated, named and written down before the first one starts.
Then they are computed: what is done is skipped, what was interrupted goes on, what failed is tried again.
"""

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.command import command
from experiments.grid import Grid, Outcome, over_grid
from experiments.launchers import LAUNCHERS
from scaling.config import RunConfig
from scaling.data import ShardSet, choose
from scaling.errors import ConfigError, RunError
from scaling.launch import slots
from scaling.runs import Known, Recipe, RunDir, admitted, alone, hold_together, run_id


def stage(configs: Sequence[RunConfig], *, swept: Collection[str] = ()) -> list[RunDir]:
    """Name every run and write its configuration down, in the order given; nothing is left if one is refused.

    Args:
        swept: keys that the runs' sweep varies.

    Raises:
        ScalingError: if the data is missing, a run fits nowhere, or the study holds runs that are not comparable.
    """
    configs, data_digest = _with_data(configs)
    study_dir = Path(configs[0].study.root) / configs[0].study.name
    recipe = admitted(study_dir, configs, data_digest, swept=swept)
    runs = _named(study_dir, configs, data_digest, recipe)
    twice = [run_id for run_id, count in Counter(run.run_id for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two cells of the grid are the same run {twice[0]}: they name a value twice, or differ only in what does "
            "not change the result (ranks, ZeRO stage, micro-batches); compare those under different study.name"
        )
    configs = [
        _fitted(config, run) if _is_planned(config) else config for config, run in zip(configs, runs, strict=True)
    ]
    LAUNCHERS[configs[0].launcher.kind].validate(runs, configs)
    study_dir.mkdir(parents=True, exist_ok=True)
    with alone(study_dir):  # two people may begin a study at once
        recipe = hold_together(study_dir, configs, data_digest, swept=swept)
        runs = _named(study_dir, configs, data_digest, recipe)
        for run, config in zip(runs, configs, strict=True):
            run.stage(config)
    return runs


def _named(study_dir: Path, configs: Sequence[RunConfig], data_digest: str, recipe: Recipe) -> list[RunDir]:
    """The directory of each run: the one in which it was begun, or one that names what the study varies."""
    known = Known(study_dir)
    names = [
        known.name_of(config, data_digest) or run_id(config, data_digest, recipe.swept_by(config.model.name))
        for config in configs
    ]
    return [RunDir(study_dir / name) for name in names]


def _with_data(configs: Sequence[RunConfig]) -> tuple[list[RunConfig], str]:
    """The same runs with the digest of their data, and with widths for numbers of parameters; and that digest."""
    for config in configs:
        graph, ranks = config.parallel.graph, config.launcher.ranks
        if ranks % graph:
            raise ConfigError(f"parallel.graph={graph} must be a divisor of launcher.ranks={ranks}")
    shards = {config.data.path: ShardSet(config.data.path) for config in configs}
    digests = {opened.manifest.digest for opened in shards.values()}
    if len({(config.study.root, config.study.name) for config in configs}) > 1 or len(digests) > 1:
        raise ConfigError("data.path and study.name cannot be swept: a study has one name and one data set")
    (digest,) = digests
    for data, train in {(config.data, config.train) for config in configs}:
        if data.digest not in ("", digest):
            raise ConfigError(f"data.digest={data.digest} must be that of {data.path}, {digest}; or leave it out")
        choose(data, shards[data.path], train.labels)
    configs = [replace(config, data=replace(config.data, digest=digest)) for config in configs]
    if any(config.model.num_params for config in configs):
        from scaling.models import with_width

        num_elements = len(next(iter(shards.values())).manifest.elements)
        configs = [replace(config, model=with_width(config.model, num_elements)) for config in configs]
    return list(configs), digest


def _by_cost(runs: Sequence[RunDir], configs: Sequence[RunConfig]) -> list[RunDir]:
    """The most expensive run first, so that cheap ones fill the gaps at the end."""

    def cost(config: RunConfig) -> tuple[float, float]:
        return config.model.sized().training_flops(num_atoms=1, num_edges=10), config.data.fraction

    order = sorted(range(len(runs)), key=lambda k: cost(configs[k]), reverse=True)
    return [runs[k] for k in order]


def _is_planned(config: RunConfig) -> bool:
    return config.zero.auto or config.launcher.ranks == 0


def _fitted(config: RunConfig, run: RunDir) -> RunConfig:
    from scaling.planning import fitted  # brings torch, which takes seconds

    begun_at = run.config().zero.stage if any(run.checkpoints.glob("step-*")) else None
    launcher = config.launcher
    if launcher.kind == "local":
        side_by_side = max(Counter(slots(config)).values())
    elif launcher.kind == "slurm":
        side_by_side = max(1, launcher.workers) if launcher.slurm.gpus_per_rank else 1  # they share its GPUs
    elif config.plan.device_memory_gib:
        side_by_side = 1
    else:
        raise ConfigError("plan.device_memory_gib=0 must be what one rank has where you start it, for zero=auto")
    return fitted(config, begun_at=begun_at, side_by_side=side_by_side)


def outcome_of(run: RunDir) -> Outcome:
    """The validation loss of a run that is done, why it failed, or None where its job has not ended."""
    status = run.status()
    if status.state == "done":
        return run.result().val_loss
    return RunError(f"{run.path} failed: {status.failure}") if status.state == "failed" else None


@command
def main() -> int:
    """Compose, stage, compute; exit code 0 only if every run is done, or with launcher=slurm on its way."""
    failed: list[int] = []

    def train(grid: Grid) -> list[Outcome]:
        configs = grid.configs
        launcher = LAUNCHERS[configs[0].launcher.kind]
        if grid.is_drawn and not launcher.waits(configs[0]):
            raise ConfigError(
                f"launcher={configs[0].launcher.kind} does not wait for the losses by which a sweeper draws; say "
                "launcher=local, or with launcher=slurm_cpu or slurm_gpu launcher.slurm.wait=true"
            )
        runs = stage(configs, swept=grid.swept)
        failed.append(launcher.compute(_by_cost(runs, configs), configs[0]))
        return [outcome_of(run) for run in runs]

    over_grid(train)
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
