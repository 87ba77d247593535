"""How a command ends: users' mistakes as one line, no traceback."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import wraps
from typing import get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scaling.config import BudgetConfig, RunConfig, SlurmConfig
from scaling.errors import ConfigError, ScalingError

#: Hydra's way out of a mistyped key, which would lead astray: there are no other keys than those of the schema.
ADVICE = re.compile(r"To append to your config use \+")
UNKNOWN_KEY = re.compile(r"Key '([^']*)' (?:is )?not in '(\w+)'")
A_LIST = re.compile(r"Value '\[.*\]' of type '\w+' could not be converted")
WAYS_OUT = {
    re.compile(r"is not a ListConfig"): 'a list is written in brackets: \'KEY=["one","two"]\'',
    re.compile(r"could not be converted to Integer"): "a whole number is wanted",
    re.compile(r"(?<!per)_(?:min|s)\b"): "times are in the unit that ends the key",
    re.compile(
        r"override_grammar"
    ): "a value with = , : or brackets needs quotes of its own: 'KEY=\"a=b\"' 'KEY=[\"a=b\"]'",
}
#: The keys of each schema, by its name.
KEYS_OF = {
    schema.__name__: tuple(field.name for field in fields(schema))
    for schema in (
        RunConfig,
        *(get_type_hints(RunConfig)[field.name] for field in fields(RunConfig)),
        BudgetConfig,
        SlurmConfig,
    )
    if is_dataclass(schema)
}


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
            message, code = _words(error), ConfigError.exit_code
        except YAMLError as error:
            message, code = f"a YAML file cannot be read: {' '.join(str(error).split())}", ConfigError.exit_code
        except OSError as error:
            place = error.filename or "file system"
            message = f"{place}: {error.strerror or error}; check that it exists, its permissions and the space left"
            code = 1
        except KeyboardInterrupt:
            message, code = "interrupted; the same command goes on from here", 130
        print(f"error: {message}", file=sys.stderr)
        return code

    return guarded


def _words(error: Exception) -> str:
    """What Hydra says of a mistake, without its advice and search path, and with the key that may have been meant."""
    cause = str(error.__cause__ or "").partition("\n")[0]  # Hydra's own text leaves out what is wrong
    text = f"{error}\n{cause}".partition("Config search path:")[0]
    said = [line for line in text.splitlines() if line.strip() and not ADVICE.match(line)]
    if cause and text.endswith(cause) and cause not in said:
        said.append(cause)
    if unknown := UNKNOWN_KEY.search(text):
        known = KEYS_OF.get(unknown[2], ())
        if near := get_close_matches(unknown[1], known, n=1):
            said.append(f"did you mean {near[0]}?")
        elif known:
            said.append(f"allowed: {', '.join(known)}")
        if unknown[2] == "StudyConfig":
            said.append("a file in conf/study that sets keys outside of `study` begins with `# @package _global_`")
    said += [advice for pattern, advice in WAYS_OUT.items() if pattern.search(text)]
    if A_LIST.search(text):
        said.append("a grid of values is written without brackets: model.width: 4,8 (or on the command line after -m)")
    return "\n".join(said)
