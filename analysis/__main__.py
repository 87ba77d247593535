"""`python -m analysis COMMAND TABLE`; the commands are in `analysis.commands`."""

import argparse
import os
import sys

from analysis.commands import COMMANDS
from scaling.errors import DataError, ScalingError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and the error's exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Fit scaling laws and report on studies.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.HELP))
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except ScalingError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, e.g. `head`, has all it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes into the pipe once more
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return DataError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
