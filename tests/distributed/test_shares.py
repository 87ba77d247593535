"""A batch shared by several ranks has the energies, forces and gradients that one rank finds, to rounding."""

import json

import pytest

from tests.conftest import rows_of_ranks

pytestmark = pytest.mark.timeout(1800)  # seconds; the longest take minutes on a quiet machine

VALUES, GRADIENTS = 1e-12, 1e-10  # of fp64


@pytest.fixture(
    scope="module",
    params=[(4, "quick"), *(pytest.param((ranks, "all"), marks=pytest.mark.long) for ranks in (2, 3, 4))],
    ids=str,
)
def rows(request, shared):
    """One row a combination, by groups of 2, of 3, of 4, and by two groups of 2."""
    ranks, which = request.param
    made = shared(f"shares-{ranks}-{which}", lambda out: rows_of_ranks("share_ranks", ranks, out / "rows.json", which))
    found = json.loads((made / "rows.json").read_text())
    models = {(4, "quick"): 3 + 1, (4, "all"): 3 + 3}.get(request.param, 3)
    assert len(found) == models * (3 + 1) * 2, "models in each size of group x batches, one checkpointed too, x forces"
    return found


def test_energies_and_forces_are_those_of_one_rank(rows):
    assert not [row for row in rows if not max(row["energy_error"], row["force_error"]) < VALUES]


def test_gradients_add_up_to_those_of_one_rank(rows):
    assert not [row for row in rows if not row["gradient_error"] < GRADIENTS]


def test_shares_are_uneven_empty_and_without_edges(rows):
    edges = [row["edges"] for row in rows]
    assert any(0 in counts for counts in edges)
    assert any(len(set(counts)) > 1 and 0 not in counts for counts in edges)


def test_what_is_a_millionth_off_would_be_noticed(rows):
    joined = [row for row in rows if "three crystals" in row["case"]]
    assert min(row["gradient_control"] for row in joined) > 10 * GRADIENTS
    assert min(row["value_control"] for row in joined) > 10 * VALUES
