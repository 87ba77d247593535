"""A run is named by what it computes: the same computation has the same id on every machine."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from scaling.config import RunConfig, result_fields

#: Raised when the code changes what an unchanged configuration computes, so that old runs are not taken for new ones.
COMPUTATION_VERSION = 3


def computation(config: RunConfig, data_digest: str) -> dict[str, Any]:
    """All that decides what a run computes; sizes as numbers, whether they were given or follow from the width."""
    config = replace(config, model=config.model.sized())
    return {"version": COMPUTATION_VERSION, "data_digest": data_digest, **result_fields(config)}


def run_id(config: RunConfig, data_digest: str) -> str:
    """Readable prefix + hash of every field that changes the result, and of the data.

    Args:
        config: the run; paths, launcher, ZeRO stage and micro-batches do not enter.
        data_digest: content digest of the prepared data.
    """
    computed = json.dumps(computation(config, data_digest), sort_keys=True)
    digest = hashlib.sha256(computed.encode()).hexdigest()[:10]
    model = config.model
    return f"{model.name}-w{model.width}-d{model.depth}-f{config.data.fraction:g}-s{config.seed}-{digest}"
