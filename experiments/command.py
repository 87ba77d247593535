"""How a command begins and ends: a grid of runs from what Hydra composes; users' mistakes as one line, no traceback."""

import os
import re
import sys
from collections.abc import Callable
from functools import wraps

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from scaling.config import RunConfig, validated, writable
from scaling.errors import ConfigError, ScalingError

#: Hydra's way out of a mistyped key, which would lead astray: there are no other keys than those of the schema.
ADVICE = re.compile(r"To append to your config use \+")


def command(main: Callable[[], int]) -> Callable[[], int]:
    """Print errors that a user can mend and return their exit code."""

    @wraps(main)
    def guarded() -> int:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing a traceback of its own
        try:
            return main()
        except ScalingError as error:
            message, code = str(error), error.exit_code
        except (HydraException, OmegaConfBaseException) as error:
            cause = str(error.__cause__ or "").partition("\n")[0]  # Hydra's own text leaves out what is wrong
            said = [line for line in f"{error}\n{cause}".splitlines() if line.strip() and not ADVICE.match(line)]
            message, code = "\n".join(said), ConfigError.exit_code
        except OSError as error:
            message, code = f"{error.filename or 'file system'}: {error.strerror or error}", 1
        except KeyboardInterrupt:
            message, code = "interrupted; the same command goes on from here", 130
        print(f"error: {message}", file=sys.stderr)
        return code

    return guarded


ConfigStore.instance().store(name="schema", node=writable(RunConfig))


def compose() -> list[RunConfig]:
    """The grid that the command line describes, each run validated.

    Raises:
        ConfigError: naming the first key that is not allowed.
    """
    composed: list[DictConfig] = []
    # Hydra would compose every job once more to see whether it can; here all are validated before the first one starts.
    Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]

    @hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
    def take(config: DictConfig) -> None:
        composed.append(config)

    take()
    return [validated(config) for config in composed]
