"""How a command ends: users' mistakes become one line and an exit code, never a traceback."""

import os
import sys
from collections.abc import Callable
from functools import wraps

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from scaling.errors import ConfigError, ScalingError


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
            message, code = f"{error}\n{cause}".strip(), ConfigError.exit_code
        except OSError as error:
            message, code = f"{error.filename or 'file system'}: {error.strerror or error}", 1
        except KeyboardInterrupt:
            message, code = "interrupted; the same command goes on from here", 130
        print(f"error: {message}", file=sys.stderr)
        return code

    return guarded
