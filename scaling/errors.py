"""What a user did wrong or what went wrong with a run: the key or file, the value, what is allowed, the remedy."""


class ScalingError(Exception):
    """Base of the errors a user can mend; commands print its message without a traceback and exit with `exit_code`."""

    exit_code = 1


class ConfigError(ScalingError):
    """A configuration value is not allowed, e.g. `data.fraction=1.5 must be in (0, 1]; use 1.0 for the full set`."""

    exit_code = 2


class DataError(ScalingError):
    """A file or record cannot be used; the message names both."""

    exit_code = 3


class RunError(ScalingError):
    """A run or study cannot go on; the message names it and says what to do."""

    exit_code = 4


class Interrupted(ScalingError):
    """A run was asked to stop and has left a checkpoint; the same command goes on from there."""

    exit_code = 75  # EX_TEMPFAIL
