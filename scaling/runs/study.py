"""What the runs of a study have in common, written down when it is begun, so that unlike runs are never mixed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.config import RunConfig, result_fields
from scaling.errors import RunError
from scaling.runs.files import read_json, write_json
from scaling.runs.identity import flat

#: What a study may vary besides the keys that its grids have swept.
AXES = ("seed", "data.fraction", "model.name", "model.width", "model.depth")
#: What every architecture has its own of.
OWN = ("model.", "optim.")


@dataclass(frozen=True)
class Recipe:
    """study.json. axes: keys that the study varies. common: value of each other key; keys of `OWN` name their model."""

    axes: frozenset[str]
    common: dict[str, Any]

    def write(self, study_dir: Path) -> None:
        """Begin the study with it, or replace the one of fewer keys that it extends."""
        study_dir.mkdir(parents=True, exist_ok=True)
        write_json(study_dir / "study.json", {"axes": sorted(self.axes), "common": self.common})

    def swept_by(self, model: str) -> set[str]:
        """The keys that runs of this architecture differ in."""
        return {key.removesuffix(f" ({model})") for key in self.axes}


def admitted(study_dir: Path, configs: Sequence[RunConfig], data_digest: str, *, swept: Collection[str] = ()) -> Recipe:
    """The study's recipe with these runs in it; nothing is written.

    An architecture new to the study brings sizes and an optimiser of its own, which it keeps from then on.

    Args:
        swept: keys that the runs' sweep varies, also where it gives one value at a time.

    Raises:
        RunError: naming what differs from the runs that the study holds: the data, or a setting that it keeps fixed.
    """
    recipes = [_recipe(config, data_digest) for config in configs]
    path = study_dir / "study.json"
    remedy = "remove it, and the next command writes what its runs have in common"
    axes, common = set(AXES), dict[str, Any]()
    if path.exists():
        axes, common = read_json(path, lambda found: (set(found["axes"]), dict(found["common"])), remedy=remedy)
    for config, recipe in zip(configs, recipes, strict=True):
        common = _with_sizes(common, config)
        for key, value in recipe.items():
            if common.get(key, value) != value:
                what = "its data" if key == "data_digest" else key
                raise RunError(
                    f"{study_dir} was begun with {what} = {common[key]}, now it is {value}: the runs would not be "
                    "comparable; choose another study.name, or remove the directory"
                )
    for config in configs:
        axes |= {_owned(key, config.model.name) for key in swept} - common.keys()
    first: dict[str, Any] = {}
    for recipe in recipes:
        axes |= {key for key, value in recipe.items() if first.setdefault(key, value) != value}
    new = {key: value for key, value in first.items() if key not in axes and key not in common}
    return Recipe(frozenset(axes), common | new)


def hold_together(
    study_dir: Path, configs: Sequence[RunConfig], data_digest: str, *, swept: Collection[str] = ()
) -> Recipe:
    """Begin a study, or refuse runs that would not be comparable with those it holds: see `admitted`."""
    recipe = admitted(study_dir, configs, data_digest, swept=swept)
    recipe.write(study_dir)
    return recipe


def _recipe(config: RunConfig, data_digest: str) -> dict[str, Any]:
    """All that decides the result but the axes; what is the architecture's own has its name in the key."""
    settings = {**flat(result_fields(config)), "data_digest": data_digest}
    return {_owned(key, config.model.name): value for key, value in settings.items() if key not in AXES}


def _owned(key: str, model: str) -> str:
    return f"{key} ({model})" if key.startswith(OWN) and key not in AXES else key


def _with_sizes(common: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """What stands in a recipe of before 2026-12 as null: sizes of the architecture that nobody had set."""
    nobody_set = {
        _owned(f"model.{key}", config.model.name): value for key, value in asdict(type(config.model)()).items()
    }
    return {key: nobody_set.get(key) if value is None else value for key, value in common.items()}
