"""Digests of runs as earlier versions of this program named them, so that their studies go on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Up to 2026-11, all of these keys entered the digest, with their values, whether anybody had set them or not.
KEYS = (
    "seed",
    *(f"data.{key}" for key in ("fraction", "fraction_of", "cutoff_ang", "val_share", "test_share", "split_seed")),
    *(f"model.{key}" for key in ("name", "width", "depth", "num_radial", "forces", "num_params")),
    *(f"optim.{key}" for key in ("lr", "lr_reference_width", "lr_width_exponent", "beta1", "beta2", "weight_decay")),
    *(f"optim.{key}" for key in ("max_grad_norm", "warmup_share", "decay_share")),
    *(f"train.{key}" for key in ("budget.unit", "budget.amount", "batch_size", "energy_weight", "force_weight")),
    *(f"train.{key}" for key in ("precision", "validate_every")),
)
TRIPLET_SIZES = ("num_spherical", "triplet_width")
#: And those of the architectures that there were.
SIZES = {
    "egnn": (),
    "dimenetpp": (*TRIPLET_SIZES, "output_width"),
    "gemnet_t": (*TRIPLET_SIZES, "node_width", "bilinear_width"),
}
VERSION = 3


def former_digest(settings: Mapping[str, Any], unchanged: Mapping[str, Any], data_digest: str) -> str | None:
    """The digest that this computation had up to 2026-11; None if that version could not compute it.

    Args:
        settings: every key that changes the result. unchanged: their values where nobody has set them.
    """
    sizes = SIZES.get(settings["model.name"])
    if sizes is None:
        return None
    known = (*KEYS, *(f"model.{size}" for size in sizes))
    if any(value != unchanged.get(key) for key, value in settings.items() if key not in known):
        return None
    nested: dict[str, Any] = {"version": VERSION, "data_digest": data_digest}
    for key in known:
        node = nested
        *sections, name = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = settings.get(key)
    return hashlib.sha256(json.dumps(nested, sort_keys=True).encode()).hexdigest()[:10]
