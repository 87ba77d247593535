"""DeepSpeed's gradients beside plain torch's, for every supported combination, on two ranks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOLERANCE = 1e-5  # fp32 sums in another order; 1e-3 would pass a wrong model


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """(forces, stage, checkpointing, error, error against gradients scaled by 1.001)."""
    out = tmp_path_factory.mktemp("gradients") / "rows.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("gradient_ranks.py")
    done = subprocess.run([*torchrun, script, out], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_gradients_equal_plain_torch_at_every_stage_with_and_without_checkpointing(rows):
    assert len(rows) == 2 * 4 * 3, "forces x stages x checkpointing of no, every and every other layer"
    wrong = [row for row in rows if not row[3] < TOLERANCE]
    assert not wrong


def test_a_gradient_off_by_a_thousandth_would_be_noticed(rows):
    assert all(row[4] > 10 * TOLERANCE for row in rows)
