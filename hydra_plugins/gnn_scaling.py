"""Where Hydra hands a grid over: a sweeper that lists its cells, and a launcher that takes all of them at once.

Hydra finds plugins in the namespace package hydra_plugins, which therefore has no __init__.py. Sweepers of others work
with the launcher as they are (hydra/sweeper=optuna): it returns the validation loss of each run.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridLauncher(Launcher):
    """Composes and validates every cell of a batch, then gives them to the command as one grid."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises ConfigError, before anything is written, if a cell is not allowed."""
        from experiments.grid import compose_grid  # Hydra imports every plugin of every program

        grid = compose_grid(self.hydra_context.config_loader, self.config, job_overrides)
        outcomes = self.task_function(grid)
        return [_job_return(words, outcome) for words, outcome in zip(job_overrides, outcomes, strict=True)]


def _job_return(overrides: Sequence[str], outcome: float | Exception | None) -> JobReturn:
    status = JobStatus.FAILED if isinstance(outcome, Exception) else JobStatus.COMPLETED
    return JobReturn(overrides=list(overrides), status=status, _return_value=outcome)


class GridSweeper(Sweeper):
    """All combinations of the values that are swept, in one batch.

    Hydra's own sweeper composes every cell once more to see whether it can, and writes before they are validated.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        from experiments.grid import refuse_foreign_launcher

        refuse_foreign_launcher(config)
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Returns what the launcher does. The command line goes before `hydra.sweeper.params`."""
        from scaling.errors import ConfigError

        words = [f"{key}={value}" for key, value in (self.params or {}).items()] + arguments
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        swept = [override for override in parser.parse_overrides(arguments) if override.is_sweep_override()]
        count = Counter(override.get_key_element() for override in swept)
        if twice := [key for key in count if count[key] > 1]:
            raise ConfigError(f"{twice[0]} is swept twice; give it once, with all its values: {twice[0]}=A,B")
        choices: dict[str, list[str]] = {}
        for override in parser.parse_overrides(words):
            key = override.get_key_element()
            if not override.is_sweep_override():
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise ConfigError(
                    f"{override.input_line}: a grid needs values, as in {key}=1,2,4; intervals are for a sweeper that "
                    "draws from them: hydra/sweeper=optuna"
                )
        return self.launcher.launch([list(cell) for cell in itertools.product(*choices.values())], initial_job_idx=0)


@dataclass
class GridLauncherConfig:
    """hydra/launcher=grid."""

    _target_: str = f"{__name__}.{GridLauncher.__name__}"


@dataclass
class GridSweeperConfig:
    """hydra/sweeper=grid. params: keys and their values, separated by commas."""

    _target_: str = f"{__name__}.{GridSweeper.__name__}"
    params: dict[str, Any] | None = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="grid", node=GridLauncherConfig, provider="gnn_scaling")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConfig, provider="gnn_scaling")
