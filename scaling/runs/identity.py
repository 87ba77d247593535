"""A run is named by what it computes: the same computation has the same digest on every machine.

The digest is of every key that changes the result and differs from its default, so that a new key with a default
renames nothing. A default that changes later is entered into `FORMER_DEFAULTS`: its former value still stays out.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.config import RunConfig, read_config, result_fields
from scaling.errors import ConfigError
from scaling.runs.files import read_json
from scaling.runs.former import former_digest

#: Raised when the code changes what an unchanged configuration computes, so that old runs are not taken for new ones.
COMPUTATION_VERSION = 3
#: Of a key whose default has changed since it was added: the first default, the one that stays out of the digest. A key
#: of one architecture alone ends with its name, as in "model.num_radial (gemnet_t)". Where a size follows from the
#: width in another way than before, COMPUTATION_VERSION is raised.
FORMER_DEFAULTS: dict[str, Any] = {}

#: What every run's name begins with, and what stands there for each.
PREFIX = {"model.name": "", "model.width": "w", "model.depth": "d", "data.fraction": "f", "seed": "s"}
DIGEST_LENGTH = 10
#: How the name of a run ends that nobody has renamed.
NAMED = re.compile(rf"-[0-9a-f]{{{DIGEST_LENGTH}}}$")


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, its keys joined by dots."""
    joined: dict[str, Any] = {}
    for key, value in nested.items():
        joined.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return joined


def settings(config: RunConfig) -> dict[str, Any]:
    """Every key that changes the result with its value; sizes as numbers, also where they follow from the width."""
    return flat(result_fields(replace(config, model=config.model.sized())))


def unchanged(config: RunConfig) -> dict[str, Any]:
    """What the keys of a run's architecture and optimiser are where nobody has set them: what stays out of its digest.

    Sizes that follow from the width are those of this run's width.
    """
    plain = RunConfig()
    model = type(config.model)
    others = replace(plain, model=model(width=config.model.width), optim=type(config.optim)())
    schema = {"model.name": plain.model.name, "model.width": model().width, "optim.name": plain.optim.name}
    own = f" ({config.model.name})"
    former = {key.removesuffix(own): value for key, value in FORMER_DEFAULTS.items() if " (" not in key or own in key}
    return {**settings(others), **schema, **former}


def computation(config: RunConfig, data_digest: str) -> dict[str, Any]:
    """All that decides what a run computes: the version of the code's results, the data, and the keys that were set."""
    return {"version": COMPUTATION_VERSION, "data_digest": data_digest, **distinguishing(settings(config), config)}


def distinguishing(values: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Of the settings of a run like `config`, those that differ from what they are where nobody has set them."""
    nobody_set = unchanged(config)
    return {key: value for key, value in values.items() if key not in nobody_set or value != nobody_set[key]}


def digest(config: RunConfig, data_digest: str) -> str:
    """What a run is recognised by, wherever it lies and whatever the readable part of its name.

    Args:
        config: the run; paths, launcher, ZeRO stage and micro-batches do not enter.
        data_digest: content digest of the prepared data.
    """
    return _sha256(computation(config, data_digest))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def run_id(config: RunConfig, data_digest: str, swept: Collection[str] = ()) -> str:
    """The name of a run that has none yet: readable, then its digest.

    Args:
        swept: keys that its study varies, which the readable part names.
    """
    values = settings(config)
    parts = [f"{short}{_readable(values[key])}" for key, short in PREFIX.items()]
    for key in sorted(set(swept) & values.keys() - PREFIX.keys()):
        parts.append(f"{key.removesuffix('.name').rpartition('.')[2]}{_readable(values[key])}")
    return "-".join([*parts, digest(config, data_digest)])


def _readable(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("/", "_")


def digest_of(run_dir: Path) -> str | None:
    """What the run in a directory computes, whatever the directory is called; None if its data are not known."""
    config = read_config(run_dir / "config.yaml")
    result = run_dir / "result.json"
    data_digest = config.data.digest
    if not data_digest and result.exists():  # staged before 2026-12
        data_digest = read_json(result, lambda found: str(found["data_digest"]), remedy="remove it to run again")
    return digest(config, data_digest) if data_digest else None


class Known:
    """The runs that a study's directory holds, found by what they compute."""

    def __init__(self, study_dir: Path) -> None:
        """Look at all directories; of a run and its copies under other names the run is known, else a finished copy."""
        names = sorted(path.parent.name for path in study_dir.glob("*/config.yaml"))
        named = {name[-DIGEST_LENGTH:]: name for name in names if NAMED.search(name)}
        renamed = [name for name in names if not NAMED.search(name)]
        renamed.sort(key=lambda name: (study_dir / name / "result.json").exists())
        self._by_digest: dict[str | None, str] = {}
        for name in renamed:
            with suppress(ConfigError):  # whatever has a config.yaml of another kind is no run
                self._by_digest[digest_of(study_dir / name)] = name
        self._by_digest.update(named)

    def name_of(self, config: RunConfig, data_digest: str) -> str | None:
        """The directory of the run that computes this, also if an earlier version named it; None if there is none."""
        found = self._by_digest.get(digest(config, data_digest))
        if found is None and (former := former_digest(settings(config), unchanged(config), data_digest)):
            found = self._by_digest.get(former)
        return found
