"""The measurements run, and write what they found."""

import json
from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.reference.processes import bench_ranks

FITS = Path(__file__).parents[3] / "shared" / "data" / "fits"
#: What the memory bench compares, for each kind of forces in this order.
TECHNIQUES = [
    *("vanilla", "+ checkpointing every 2nd layer", "+ activation checkpointing"),
    *("+ ZeRO 1", "+ ZeRO 2", "+ ZeRO 3", "+ optimizer states offloaded"),
]
BY_FORCES = {
    "direct": TECHNIQUES,
    "conservative": ["double backward", "double backward + checkpointing", *TECHNIQUES],
}
HEAD = {"machine", "commit", "date", "rows"}

pytestmark = pytest.mark.usefixtures("torchrun_forks")


def measured(module: str, folder, *arguments: str) -> list[dict]:
    out = folder / "found.json"
    done = run_command(f"experiments.bench.{module}", "--quick", "--json", str(out), *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found) == HEAD
    return found["rows"]


@pytest.mark.long
def test_run_of_two_ranks_killed_at_random_ends_with_the_same_bits(tmp_path):
    (row,) = measured("kills", tmp_path)
    assert sum(row["killed"].values()) == row["kills"] == 3
    assert row["went_on"] > 0, "the control: some kill came after a checkpoint"


@pytest.mark.long
def test_throughput_is_measured_beside_a_plain_network_and_the_machines_limit(tmp_path):
    rows = measured("throughput", tmp_path, "--threads", "1")
    steps, overhead = ([row for row in rows if key in row] for key in ("times_plain", "ms_added"))
    assert {(row["forces"], row["checkpointing"]) for row in steps} == {
        (forces, checkpointing) for forces in ("direct", "conservative") for checkpointing in (0, 1)
    }
    assert all(row["plain_num_params"] == pytest.approx(row["num_params"], rel=0.1) for row in steps)
    assert all(0 < row["share_of_limit"] < 1 for row in steps)
    assert len(overhead) == 2


def test_coverage_is_measured_beside_the_percentile_bootstrap(tmp_path):
    rows = measured("coverage", tmp_path)
    assert {row["quantity"] for row in rows} >= {"exponents", "loss x10"}
    assert all(0 <= row["flagged_percent"] <= 100 for row in rows)
    assert all(row["covered_percent_with_flagged"] > 0 for row in rows)


def test_what_to_run_next_is_tried_in_a_closed_loop_at_equal_cost(tmp_path):
    rows = measured("next_runs", tmp_path)
    assert [row["way"] for row in rows][:2] == ["nothing added", "design"]
    assert all(row["mean_cost"] <= row["budget"] * (1 + 1e-6) for row in rows)
    assert rows[1]["median_width"] < rows[0]["median_width"], "the control: added runs narrow"


def shared(name: str, forces: str, ranks: int, folder: Path, **size: int) -> list[dict]:
    """What ranks that share one structure have measured."""
    case = {"name": name, "forces": forces, "depth": 2, "structures": 1, **size}
    return bench_ranks("graph_parallel", case, ranks=ranks, out=folder / f"{ranks}.json")


@pytest.mark.parametrize(
    ("name", "forces", "checkpointing"),
    [
        ("gemnet_t", "conservative", 1),
        pytest.param("egnn", "conservative", 1, marks=pytest.mark.long),
        pytest.param("egnn", "direct", 0, marks=pytest.mark.long),
        pytest.param("dimenetpp", "direct", 1, marks=pytest.mark.long),
    ],
)
def test_bytes_between_ranks_are_those_of_the_closed_form(name, forces, checkpointing, tmp_path):
    found = shared(name, forces, 2, tmp_path, width=8, atoms=60, checkpointing=checkpointing)
    assert [rank["sent_bytes"] for rank in found] == [rank["expected_bytes"] for rank in found]
    assert min(rank["sent_bytes"] for rank in found) > 1000, "the control: ranks do exchange"


@pytest.mark.parametrize(
    ("name", "forces"),
    [
        ("gemnet_t", "direct"),
        pytest.param("gemnet_t", "conservative", marks=pytest.mark.long),
        pytest.param("dimenetpp", "conservative", marks=pytest.mark.long),
        pytest.param("egnn", "conservative", marks=pytest.mark.long),
    ],
)
def test_four_ranks_need_a_third_of_the_memory_of_one_for_a_structure_that_they_share(name, forces, tmp_path):
    one, four = (shared(name, forces, ranks, tmp_path, width=16, atoms=100, checkpointing=0) for ranks in (1, 4))
    assert max(rank["peak_bytes"] for rank in four) < 0.35 * max(rank["peak_bytes"] for rank in one)


def test_efficiency_falls_with_the_time_that_links_take(tmp_path):
    rates = ["--flops-per-s", "1e13", "--near-devices", "8", "--structures", "2", "--predict-only"]
    fast = ["--near-bytes-per-s", "1e15", "--far-bytes-per-s", "1e15", "--latency-s", "0.0"]
    slow = ["--near-bytes-per-s", "1e10", "--far-bytes-per-s", "1e9", "--latency-s", "1e-4"]
    ideal, real = (
        {
            (row["network"], row["devices"]): row["efficiency_percent"]
            for row in measured("graph_parallel", tmp_path, *rates, *links)
        }
        for links in (fast, slow)
    )
    assert {("gemnet_960m", 8), ("gemnet_125m", 32), ("gemnet_960m", 256)} < set(ideal)
    assert all(real[key] <= ideal[key] for key in ideal)
    assert real["gemnet_960m", 256] < 0.8 * ideal["gemnet_960m", 256]


@pytest.mark.long
def test_angles_without_triplets_are_measured_beside_triplets(tmp_path):
    rows = measured("triplets", tmp_path)
    assert all(row["triplets"] > 3 * row["edges"] for row in rows)
    assert all(row["peak_percent"] < 100 for row in rows)


@pytest.mark.long
def test_shared_batches_are_measured(tmp_path):
    rows = measured("graph_parallel", tmp_path)
    assert {row["ranks"] for row in rows if "ranks" in row} == {1, 2, 4}


@pytest.mark.long
def test_memory_is_measured_for_every_technique(tmp_path):
    rows = measured("memory", tmp_path)
    techniques = [(forces, technique) for forces, techniques in BY_FORCES.items() for technique in techniques]
    assert [(row["forces"], row["technique"]) for row in rows] == 2 * techniques
    least = {row["technique"]: row.get("peak_percent_of_first") for row in rows if row["size"] == "activations"}
    assert least["+ activation checkpointing"] < 100


def test_parabolas_are_biased_without_noise_by_what_is_stated_and_the_surface_is_not(tmp_path):
    rows = measured("isoflop", tmp_path)
    assert all(abs(row["error_of_a_parabolas"]) > 0.005 for row in rows)
    assert all(row["bias_stated"] == pytest.approx(row["error_of_a_parabolas"], abs=1e-5) for row in rows)
    assert all(abs(row["error_of_a_surface"]) < 1e-5 for row in rows)


@pytest.mark.skipif(not FITS.exists(), reason="../shared is not on this machine")
def test_refits_end_where_bfgs_ends(tmp_path):
    rows = measured("refits", tmp_path, str(FITS / "epoch_chinchilla" / "svg_extracted_data.csv"))
    by_name = {row["minimiser"]: row for row in rows if "minimiser" in row}
    for name, row in by_name.items():
        if name.startswith("batched"):
            assert row["worst_excess_over_bfgs"] < 1e-8
    control = by_name["L-BFGS-B, default tolerances"]
    assert control["worse_by_1e_8"] > 0, "the control: a loose minimiser is seen to be worse"


@pytest.mark.long
@pytest.mark.skipif(not FITS.exists(), reason="../shared is not on this machine")
def test_curves_are_scored_beside_what_was_measured(tmp_path):
    rows = measured("curves", tmp_path, str(FITS / "alabdulmohsin_benchmark"))
    (means,) = [row for row in rows if row.get("domain") == "all" and "M4" in row and "M1" in row]
    assert 0 < means["chosen"] < means["M1"]


@pytest.mark.parametrize("module", ["refits", "curves"])
def test_absent_data_is_told_with_where_to_get_it(module, tmp_path):
    done = run_command(f"experiments.bench.{module}", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "https://github.com/" in done.stderr
    assert "Traceback" not in done.stderr


BENCHES = Path(__file__).parents[2] / "experiments" / "bench"
#: Benches that have tests of their own above, or (sweep) in tests/slurm; those of the two published tables need files.
MEASURED_ABOVE = {"coverage", "curves", "graph_parallel", "isoflop", "kills", "memory", "next_runs", "refits"}
MEASURED_ABOVE |= {"sweep", "throughput", "triplets"}
COMMANDS = {path.stem for path in BENCHES.glob("*.py") if '__name__ == "__main__"' in path.read_text()}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("module", sorted(COMMANDS - MEASURED_ABOVE))
def test_every_other_bench_measures_something(module, tmp_path):
    assert measured(module, tmp_path)


def test_benches_are_where_they_are_looked_for():
    assert MEASURED_ABOVE < COMMANDS
