"""What the runs of a study have in common, written down when it is begun, so that unlike runs are never mixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.config import RunConfig, result_fields
from scaling.errors import RunError
from scaling.runs.files import read_json, write_json

#: What a study may vary besides the keys that its first grid swept.
AXES = ("seed", "data.fraction", "model.name", "model.width", "model.depth")


def hold_together(study_dir: Path, configs: Sequence[RunConfig], data_digest: str) -> None:
    """Begin a study, or refuse runs that would not be comparable with those it holds.

    Raises:
        RunError: naming what differs: the data, or a setting that the study keeps fixed.
    """
    recipes = [{**flat(result_fields(config)), "data_digest": data_digest} for config in configs]
    swept = sorted({key for recipe in recipes for key in recipe if recipe[key] != recipes[0].get(key)} | set(AXES))
    path = study_dir / "study.json"
    if not path.exists():
        study_dir.mkdir(parents=True, exist_ok=True)
        fixed = {key: value for key, value in recipes[0].items() if key not in swept}
        write_json(path, {"axes": swept, "fixed": fixed})
        return
    remedy = "remove it, and the next command writes what its runs have in common"
    fixed = read_json(path, lambda found: dict(found["fixed"]), remedy=remedy)
    for recipe in recipes:
        for key, value in fixed.items():
            if recipe.get(key) != value:
                what = "its data" if key == "data_digest" else key
                raise RunError(
                    f"{study_dir} was begun with {what} = {value}, now it is {recipe.get(key)}: the runs would not be "
                    "comparable; choose another study.name, or remove the directory"
                )


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, its keys joined by dots."""
    joined: dict[str, Any] = {}
    for key, value in nested.items():
        joined.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return joined
