"""How a command begins and ends: a grid of runs from what Hydra composes; users' mistakes as one line, no traceback."""

import copy
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, get_type_hints

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from experiments.schema import register
from scaling.config import BudgetConfig, RunConfig, SlurmConfig, validated
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
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
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


register()


def _cells(launcher: Any, batch: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
    """The cells of a grid, in place of Hydra's launcher, which reads every file again for each of them.

    Files are read once for each choice of them; the other overrides are applied as Hydra itself applies them.
    """
    loader = launcher.hydra_context.config_loader
    is_group = cache(lambda key: bool(loader.get_group_options(key)))
    read: dict[tuple[str, ...], DictConfig] = {}
    for words in batch:
        _refuse_bare_name(words)
        overrides = OverridesParser.create().parse_overrides(list(words))
        is_file = [is_group(each.key_or_group) or each.is_delete() for each in overrides]
        files = tuple(word for word, chooses in zip(words, is_file, strict=True) if chooses)
        if files not in read:
            config = loader.load_sweep_config(launcher.config, list(files))
            with open_dict(config):
                del config["hydra"]
            read[files] = config
        config = copy.deepcopy(read[files])
        values = [each for each, chooses in zip(overrides, is_file, strict=True) if not chooses]
        ConfigLoaderImpl._apply_overrides_to_config([v for v in values if not v.is_hydra_override()], config)
        yield config


def _refuse_bare_name(overrides: Sequence[str]) -> None:
    """An architecture comes with its learning rate and basis, which its name alone would leave those of another."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "model.name":
            raise ConfigError(
                f"model.name={value} would train it with the learning rate of another architecture; say model={value}"
            )


def compose() -> list[RunConfig]:
    """The grid that the command line describes, each run validated.

    Raises:
        ConfigError: naming the first key that is not allowed.
    """
    composed: list[DictConfig] = []
    overrides: list[str] = []
    # Hydra would compose every job once more to see whether it can; here all are validated before the first one starts.
    Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
    launcher = Plugins.instance().class_name_to_class[BASIC_LAUNCHER]
    launcher.launch = lambda self, batch, initial_job_idx: composed.extend(_cells(self, batch)) or []  # type: ignore

    @hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
    def take(config: DictConfig) -> None:
        overrides.extend(HydraConfig.get().overrides.task)
        composed.append(config)

    take()
    _refuse_bare_name(overrides)
    return [validated(config) for config in composed]
