"""A layer of GemNet-T beside fairchem's (its gemnet_t, to version 1), with copied weights.

fairchem's files are taken alone: what they import besides torch is compiled or heavy, and stands in below.
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

import pytest
import torch
from torch import nn

from scaling.models import Graphs, build
from scaling.models.gemnet import GemNetTConfig
from tests.reference.triplets import triplets
from tests.unit.models.test_angles import legendre
from tests.unit.models.test_physics import CUTOFF


class Factor(nn.Module):
    """In place of fairchem's factors fitted to data: a given one."""

    def __init__(self, *_, **__) -> None:
        super().__init__()
        self.factor = 1.0

    def forward(self, x, ref=None):
        return self.factor * x


def _scatter(x, index, dim=0, dim_size=None, reduce="sum"):
    return x.new_zeros(dim_size, *x.shape[1:]).index_add(0, index, x)


@pytest.fixture
def layers(monkeypatch):
    """fairchem's layers: the block and the module of dense layers."""
    try:
        files = distribution("fairchem-core")
    except PackageNotFoundError:
        pytest.skip("fairchem-core is not installed: pip install --no-deps fairchem-core==1.10.0")
    for name in ("fairchem", "fairchem.core", "fairchem.core.models", "fairchem.core.models.gemnet"):
        package = ModuleType(name)
        package.__path__ = [str(files.locate_file(name.replace(".", "/")))]
        monkeypatch.setitem(sys.modules, name, package)
    stand_ins = {
        "torch_scatter": {"scatter": _scatter},
        "fairchem.core.modules": {"__path__": []},
        "fairchem.core.modules.scaling": {"ScaleFactor": Factor, "__path__": []},
        "fairchem.core.modules.scaling.scale_factor": {"ScaleFactor": Factor},
    }
    for name, members in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    before = set(sys.modules)
    from fairchem.core.models.gemnet.layers import base_layers, interaction_block

    yield base_layers, interaction_block
    for name in set(sys.modules) - before:
        monkeypatch.delitem(sys.modules, name)


def copied(layer, interaction_block):
    """fairchem's block with the weights of a layer."""
    block = interaction_block.InteractionBlockTripletsOnly(
        emb_size_atom=6,
        emb_size_edge=8,
        emb_size_trip=5,
        emb_size_rbf=16,
        emb_size_cbf=16,
        emb_size_bil_trip=4,
        num_before_skip=1,
        num_after_skip=2,
        num_concat=1,
        num_atom=3,
        activation="silu",
    ).double()
    meeting, theirs = layer.meeting, block.trip_interaction
    pairs = [
        (block.dense_ca, layer.skip),
        (theirs.dense_ba, meeting.other),
        (theirs.mlp_rbf, meeting.gate),
        (theirs.down_projection, meeting.down),
        (theirs.up_projection_ca, meeting.up),
        (theirs.up_projection_ac, meeting.up_swapped),
        (block.atom_update.dense_rbf, layer.atoms.gate),
        (block.atom_update.layers[0], layer.atoms.mlp[0]),
    ]
    residuals = [
        *zip(block.layers_before_skip, layer.before_skip, strict=True),
        *zip(block.layers_after_skip, layer.after_skip, strict=True),
        *zip(block.atom_update.layers[1:], layer.atoms.mlp[1:], strict=True),
        *zip(block.residual_m, layer.after_concat, strict=True),
    ]
    for their, our in residuals:
        pairs += [(their.dense_mlp[0], our.first), (their.dense_mlp[1], our.second)]
    for their, our in pairs:
        assert their.linear.weight.shape == our.weight.shape
        their.linear.weight.data.copy_(our.weight)
    theirs.mlp_cbf.weight.data.copy_(meeting.bilinear.permute(1, 0, 2))
    dst, src = layer.concat.ends.weight.chunk(2)
    block.concat_layer.dense.linear.weight.data.copy_(torch.cat([src, dst, layer.concat.edge.weight], 1))
    theirs.scale_cbf_sum.factor, block.atom_update.scale_sum.factor = meeting.sum_scale, layer.atoms.sum_scale
    return block


def with_our_constants(block, base_layers):
    """Plain SiLU, branches added as they are; only where two messages meet they are halved in variance, as there."""
    for module in block.modules():
        if isinstance(module, base_layers.ScaledSiLU):
            module.scale_factor = 1.0
        if isinstance(module, base_layers.ResidualLayer):
            module.inv_sqrt_2 = 1.0
    block.inv_sqrt_2 = 1.0
    block.dense_ca._activation.scale_factor = 2**-0.5
    block.trip_interaction.inv_sqrt_2 = 0.5
    return block


def indices(batch: Graphs) -> tuple[torch.Tensor, ...]:
    """Triplets as fairchem lists them, sorted by the edge that hears: its and the other's number, and which one it is.

    The fourth is the Legendre polynomials of their angles, padded (E, most triplets of an edge, 7).
    """
    kj, ji = triplets(batch.edges)
    hearing = batch.edges.reverse_E[ji]
    order = hearing.argsort(stable=True)
    hearing, heard = hearing[order], kj[order]
    count_E = torch.bincount(hearing, minlength=len(batch.src_E))
    place = torch.arange(len(hearing)) - (count_E.cumsum(0) - count_E)[hearing]
    angular = torch.zeros(len(batch.src_E), int(count_E.max()), 7, dtype=torch.float64)
    angular[hearing, place] = legendre(batch, kj, ji)[order]
    return hearing, heard, place, angular


@torch.no_grad()
def test_a_layer_is_fairchems_but_for_its_constants(layers, batch):
    base_layers, interaction_block = layers
    torch.manual_seed(0)
    config = GemNetTConfig(width=8, depth=1, node_width=6, triplet_width=5, bilinear_width=4)
    model = build(config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0).double()
    seen = {}
    (layer,) = model.trunk.layers
    layer.register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs, output=output))
    model(batch)
    (h, m, bases), found = seen["inputs"], seen["output"]
    block = copied(layer, interaction_block)
    hearing, heard, place, angular = indices(batch)

    def theirs():
        cbf3 = bases.circular_KESC[0].transpose(1, 2), angular.transpose(1, 2)
        lists = place, batch.edges.reverse_E, heard, hearing
        ends = batch.src_E, batch.dst_E
        return block(h[0], m[0], bases.meeting_KEC[0], cbf3, *lists, bases.atom_KEC[0], *ends)

    assert (theirs()[1] - found[1][0]).norm() > 0.1 * found[1].norm(), "with their constants it is another layer"
    with_our_constants(block, base_layers)
    expected = theirs()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[0], other, rtol=1e-12, atol=1e-12)
    block.trip_interaction.mlp_cbf.weight.data[2, 3, 1] *= 1.01
    assert (theirs()[1] - expected[1]).abs().max() > 1e-7, "the control: a weight that is a hundredth off is seen"
