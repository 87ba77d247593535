"""DeepSpeed beside plain torch and double backward: gradients of every tensor, and the losses of some steps."""

import json
from pathlib import Path

import pytest

from tests.conftest import rows_of_ranks

pytestmark = pytest.mark.timeout(1800)  # seconds; the longest take five minutes on a quiet machine

TOLERANCE = 1e-5  # fp32 sums in another order; 1e-3 would pass a wrong model


MODELS = ("egnn", "dimenetpp", "gemnet_t")
#: Ranks, how many share each batch, how thoroughly (see gradient_ranks), and the networks.
WORLDS = [
    (2, 1, "quick", "egnn"),
    *(
        pytest.param(world, marks=pytest.mark.long)
        for world in [
            (2, 2, "quick", "gemnet_t"),
            *[(1, 1, "few", "egnn"), (1, 1, "all", "egnn"), (2, 1, "few", "egnn"), (2, 1, "all", "egnn")],
            *((2, 2, "all", name) for name in MODELS),
            (4, 1, "all", "egnn"),
            *((ranks, graph, "few", name) for ranks, graph in ((4, 2), (3, 3), (4, 4)) for name in MODELS),
        ]
    ),
]


@pytest.fixture(scope="module", params=WORLDS, ids=str)
def rows(request, shared):
    """One row a combination; forces alone, in two unequal micro-batches a rank or group of ranks."""
    ranks, graph, which, *names = request.param

    def measure(out: Path) -> None:
        rows_of_ranks("gradient_ranks", ranks, out / "rows.json", str(graph), which, *names)

    made = shared("-".join(map(str, ("gradients", *request.param))), measure)
    found = json.loads((made / "rows.json").read_text())
    ways = 4 * 4 if which == "all" else 2
    assert len(found) == len(names) * 2 * ways, "networks x forces x stages, checkpointing and offload"
    return found


def test_gradients_equal_plain_torch(rows):
    assert not [row for row in rows if not row["gradient_error"] < TOLERANCE]


def test_losses_of_steps_equal_plain_torch(rows):
    assert not [row for row in rows if not row["loss_error"] < TOLERANCE]


def test_all_ranks_hold_the_same_weights_after_these_steps(rows):
    assert all(row["same_weights"] for row in rows)


def test_what_is_a_little_off_would_be_noticed(rows):
    assert all(row["gradient_control"] > 10 * TOLERANCE for row in rows)
    assert all(row["loss_control"] > 10 * TOLERANCE for row in rows)
