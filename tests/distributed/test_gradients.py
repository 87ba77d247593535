"""DeepSpeed beside plain torch and double backward: gradients of every tensor, and the losses of twenty steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOLERANCE = 1e-5  # fp32 sums in another order; 1e-3 would pass a wrong model


@pytest.fixture(scope="module", params=[1, 2, pytest.param(4, marks=pytest.mark.long)])
def rows(request, tmp_path_factory):
    """One row a combination, by so many ranks; forces alone, in two unequal micro-batches a rank."""
    out = tmp_path_factory.mktemp("gradients") / "rows.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={request.param}"]
    script = Path(__file__).with_name("gradient_ranks.py")
    done = subprocess.run([*torchrun, script, out], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert len(found) == 2 * 4 * 4, "forces x stages x checkpointing and offload"
    return found


def test_gradients_equal_plain_torch(rows):
    assert not [row for row in rows if not row["gradient_error"] < TOLERANCE]


def test_losses_of_twenty_steps_equal_plain_torch(rows):
    assert not [row for row in rows if not row["loss_error"] < TOLERANCE]


def test_what_is_a_little_off_would_be_noticed(rows):
    assert all(row["gradient_control"] > 10 * TOLERANCE for row in rows)
    assert all(row["loss_control"] > 10 * TOLERANCE for row in rows)
