"""Predicted memory is that of the tensors counted."""

from dataclasses import replace

import pytest
import torch

from scaling.config import ModelConfig, ZeroConfig
from scaling.models import build
from scaling.models.config import family
from scaling.models.counting import parameters_of
from scaling.models.egnn import EGNNConfig
from scaling.planning import backward, random_graphs
from scaling.training.memory import most_edges, peak_bytes
from tests.reference.counters import PeakTensors
from tests.reference.processes import bench_ranks

SIZES = {"num_elements": 5, "cutoff_ang": 5.0, "mean_degree": 30.0, "scale_ev": 1.0}

pytestmark = pytest.mark.usefixtures("torchrun_forks")


def counted_peak(config: ModelConfig, checkpointing: int, structures: int, mean_degree: float):
    graphs, labels_N3 = random_graphs(structures, mean_degree=mean_degree)
    with PeakTensors(alive=[labels_N3, *graphs.tensors()]) as counter:
        model = build(config, **SIZES, checkpointing=checkpointing)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for _ in range(2):
            backward(model, replace(graphs), lambda e, f: (f - labels_N3).abs().mean() + e.abs().mean())
            optimizer.step()
            optimizer.zero_grad()
    return counter.peak, len(labels_N3), len(graphs.src_E)


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize(
    ("width", "depth", "checkpointing", "structures", "mean_degree"),
    [(16, 2, 0, 8, 50), (16, 3, 1, 8, 30), (64, 4, 0, 4, 30), (64, 4, 1, 4, 40), (96, 6, 2, 3, 20), (256, 2, 1, 2, 30)],
)
def test_memory_of_one_rank_is_predicted_within_15_percent(
    forces, width, depth, checkpointing, structures, mean_degree
):
    config = EGNNConfig(width=width, depth=depth, forces=forces)
    counted, num_atoms, num_edges = counted_peak(config, checkpointing, structures, mean_degree)
    batch = {"parameters": parameters_of(config, 5), "num_ranks": 1, "num_atoms": num_atoms, "num_edges": num_edges}
    assert peak_bytes(config, ZeroConfig(0, checkpointing), **batch) == pytest.approx(counted, rel=0.15)
    other = peak_bytes(config, ZeroConfig(0, 0 if checkpointing else 1), **batch)
    if depth > 2:
        assert other != pytest.approx(counted, rel=0.15), "the control: checkpointing differs from none"


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("name", ["dimenetpp", "gemnet_t"])
@pytest.mark.parametrize(
    ("width", "depth", "checkpointing", "mean_degree"),
    [(24, 3, 0, 35), (48, 2, 1, 25), pytest.param(80, 4, 2, 30, marks=pytest.mark.long)],
)
def test_memory_of_triplet_models_is_predicted_within_15_percent(
    name, forces, width, depth, checkpointing, mean_degree
):
    config = family(name)(width=width, depth=depth, forces=forces, num_radial=12)
    counted, num_atoms, num_edges = counted_peak(config, checkpointing, 1, mean_degree)
    batch = {"parameters": parameters_of(config, 5), "num_ranks": 1, "num_atoms": num_atoms, "num_edges": num_edges}
    assert peak_bytes(config, ZeroConfig(0, checkpointing), **batch) == pytest.approx(counted, rel=0.15)
    other = peak_bytes(config, ZeroConfig(0, 0 if checkpointing else 1), **batch)
    assert other != pytest.approx(counted, rel=0.15), "the control: checkpointing differs from none"


@pytest.mark.parametrize("stage", [*(pytest.param(stage, marks=pytest.mark.long) for stage in (0, 1, 2)), 3])
def test_memory_of_two_ranks_is_predicted_within_15_percent(stage, tmp_path):
    size = {"name": "parameters", "width": 512, "depth": 3, "structures": 1}
    technique = {"name": "", "stage": stage, "checkpointing": 1}
    case = {"size": size, "forces": "direct", "technique": technique}
    counted = bench_ranks("memory", case, ranks=2, out=tmp_path / "found.json")["peak_bytes"]
    config = EGNNConfig(width=512, depth=3, forces="direct")
    graphs, _ = random_graphs(1, mean_degree=40.0)
    batch = {"num_atoms": len(graphs.x_N3), "num_edges": len(graphs.src_E)}
    predicted = peak_bytes(config, ZeroConfig(stage, 1), parameters=parameters_of(config, 5), num_ranks=2, **batch)
    assert predicted == pytest.approx(counted, rel=0.15)


def test_counter_counts_each_storage_once_until_it_is_gone():
    with PeakTensors() as counter:
        one = torch.zeros(1000)
        view = one[:10]
        other = torch.ones(500)
        assert counter.now == 4 * 1500
        del other
        assert counter.now == 4 * 1000
        view += 1
        two = one * 2
        assert counter.now == counter.peak == 4 * 2000
        del one
        assert counter.now == 4 * 2000, "its view is alive"
        del view, two
    assert counter.now == 0
    assert counter.peak == 4 * 2000


def test_largest_micro_batch_just_fits():
    config, zero, limit = EGNNConfig(width=64, depth=4), ZeroConfig(0, 1), 10.0**9
    size = {"parameters": parameters_of(config, 5), "num_ranks": 1}
    edges = most_edges(config, zero, limit, mean_degree=30.0, **size)
    assert peak_bytes(config, zero, num_atoms=edges / 30, num_edges=edges, **size) <= limit
    more = 1.01 * edges
    assert peak_bytes(config, zero, num_atoms=more / 30, num_edges=more, **size) > limit
    assert most_edges(config, zero, 10.0**5, mean_degree=30.0, **size) == 0
