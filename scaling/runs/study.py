"""What the runs of a study have in common, written down when it is begun, so that unlike runs are never mixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.config import RunConfig, result_fields
from scaling.errors import RunError
from scaling.runs.files import read_json, write_json

#: What a study may vary besides the keys that its grids have swept.
AXES = ("seed", "data.fraction", "model.name", "model.width", "model.depth")
#: What every architecture has its own of.
OWN = ("model.", "optim.")


def hold_together(study_dir: Path, configs: Sequence[RunConfig], data_digest: str) -> None:
    """Begin a study, or refuse runs that would not be comparable with those it holds.

    An architecture new to the study brings sizes and an optimiser of its own, which it keeps from then on.

    Raises:
        RunError: naming what differs: the data, or a setting that the study keeps fixed.
    """
    recipes = [_recipe(config, data_digest) for config in configs]
    path = study_dir / "study.json"
    remedy = "remove it, and the next command writes what its runs have in common"
    axes, common = set(AXES), dict[str, Any]()
    if path.exists():
        axes, common = read_json(path, lambda found: (set(found["axes"]), dict(found["common"])), remedy=remedy)
    for recipe in recipes:
        for key, value in recipe.items():
            if common.get(key, value) != value:
                what = "its data" if key == "data_digest" else key
                raise RunError(
                    f"{study_dir} was begun with {what} = {common[key]}, now it is {value}: the runs would not be "
                    "comparable; choose another study.name, or remove the directory"
                )
    first: dict[str, Any] = {}
    for recipe in recipes:
        axes |= {key for key, value in recipe.items() if first.setdefault(key, value) != value}
    study_dir.mkdir(parents=True, exist_ok=True)
    common |= {key: value for key, value in first.items() if key not in axes}
    write_json(path, {"axes": sorted(axes), "common": common})


def _recipe(config: RunConfig, data_digest: str) -> dict[str, Any]:
    """All that decides the result but the axes; what is the architecture's own has its name in the key."""
    model = config.model.name
    settings = {**flat(result_fields(config)), "data_digest": data_digest}
    return {
        f"{key} ({model})" if key.startswith(OWN) else key: value for key, value in settings.items() if key not in AXES
    }


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, its keys joined by dots."""
    joined: dict[str, Any] = {}
    for key, value in nested.items():
        joined.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return joined
