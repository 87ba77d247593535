"""Batches hold what the shards hold, with the edges of each structure and no others."""

import numpy as np
import pytest
import torch

from scaling.data.loading.loader import GraphDataset, Loader
from scaling.data.loading.sampler import EvaluationSampler, MicroBatch
from scaling.data.neighbors import neighbor_list
from scaling.data.shards import ShardSet
from scaling.errors import DataError


def dataset(tiny_data, cutoff_ang=4.5, cache_mb=8) -> GraphDataset:
    shards = ShardSet(tiny_data)
    reference = np.linspace(0.1, 1.0, len(shards.manifest.elements))[None]
    return GraphDataset(
        shards, cutoff_ang=cutoff_ang, reference_ev=reference, loss_weight=np.ones(1), cache_mb=cache_mb
    )


def test_batch_joins_structures_without_mixing_their_edges(tiny_data):
    data = dataset(tiny_data)
    chosen = (3, 0, 7)
    batch = data[MicroBatch(chosen, 1.0, True, 0)]
    first = 0
    for graph, index in enumerate(chosen):
        s = data.shards.read(index)
        here = batch.batch == graph
        torch.testing.assert_close(batch.pos[here], torch.as_tensor(s.positions))
        torch.testing.assert_close(batch.forces[here], torch.as_tensor(s.forces))
        edges, shifts = neighbor_list(s.positions, s.cell, s.pbc, 4.5)
        mine = batch.batch[batch.edge_index[1]] == graph
        np.testing.assert_array_equal(batch.edge_index[:, mine].numpy() - first, edges)
        np.testing.assert_allclose(batch.shift[mine].numpy(), shifts @ s.cell, atol=1e-5)
        elements = np.array(data.shards.manifest.elements)[batch.z[here].numpy()]
        np.testing.assert_array_equal(elements, s.numbers)
        expected = s.energy - data.reference_ev[0, batch.z[here].numpy()].sum()
        assert batch.energy[graph].item() == pytest.approx(expected, rel=1e-5)
        first += len(s.numbers)
    assert bool((batch.edge_index[1].diff() >= 0).all()), "sorted by destination"


def test_labels_are_those_of_the_batch_without_its_edges(tiny_data):
    data = dataset(tiny_data)
    chosen = MicroBatch((3, 0, 7), 1.0, True, 0)
    batch, labels = data[chosen], data.labels(chosen)
    for key in ("z", "pos", "num_atoms", "batch", "energy", "forces", "loss_weight"):
        torch.testing.assert_close(labels[key], batch[key], rtol=0, atol=0)
    assert labels.edge_index.shape == (2, 0)
    assert dataset(tiny_data, cutoff_ang=0.4).labels(chosen).structures == chosen.structures, "nobody is sought"


@pytest.mark.parametrize(("num_workers", "cache_mb"), [(0, 0), (0, 8), (2, 8)])
def test_batches_do_not_depend_on_workers_or_cache(tiny_data, num_workers, cache_mb):
    shards = ShardSet(tiny_data)
    sampler = EvaluationSampler(np.arange(30), shards.num_edges, 0, 1, 1000)
    plain = list(Loader(dataset(tiny_data), num_workers=0).batches(sampler))
    other = list(Loader(dataset(tiny_data, cache_mb=cache_mb), num_workers=num_workers).batches(sampler))
    assert len(plain) == len(other) > 3
    for a, b in zip(plain, other, strict=True):
        assert a.structures == b.structures
        for key in ("pos", "edge_index", "shift", "energy", "forces"):
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)


def test_atom_without_neighbour_is_named_with_the_way_out(tiny_data):
    lonely = dataset(tiny_data, cutoff_ang=0.4)
    with pytest.raises(DataError, match=r"structure 5: atom 0 has no neighbour within data\.cutoff_ang=0\.4; raise"):
        lonely[MicroBatch((5,), 1.0, True, 0)]
