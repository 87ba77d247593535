"""Sums over angles without triplets are those over triplets, listed one by one; bases are the published functions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_jn
from torch.nn import functional as F

from scaling.errors import DataError
from scaling.models import Graphs, build
from scaling.models.dimenet import DimeNetPlusPlusConfig
from scaling.models.gemnet import GemNetTConfig
from scaling.models.gemnet.network import Interaction
from scaling.models.ops.angles import Angles
from scaling.models.ops.bases import SphericalBesselBasis, envelope, spherical_harmonics
from scaling.parallel import reversed_edges
from tests.reference.triplets import triplets
from tests.unit.models.test_physics import CUTOFF, crystal, graphs, rotation

DEGREES = 7


def vectors(batch: Graphs) -> torch.Tensor:
    return batch.edges.differences(batch.x_N3) + batch.shift_E3


def legendre(batch: Graphs, kj: torch.Tensor, ji: torch.Tensor) -> torch.Tensor:
    """(W, S): P_l of the angle at j between k and i."""
    r_E3 = F.normalize(vectors(batch), dim=1)
    cosine = (-r_E3[ji] * r_E3[kj]).sum(1)  # r leads from destination to source: j -> i lies against it
    return torch.as_tensor(np.stack([eval_legendre(degree, cosine.numpy()) for degree in range(DEGREES)], axis=1))


@pytest.mark.parametrize("which", ["each", "all"])
def test_sums_are_those_over_listed_triplets(batch, which):
    torch.manual_seed(0)
    edges, (kj, ji) = batch.edges, triplets(batch.edges)
    assert (batch.dst_E[ji] == batch.src_E[kj]).any(), "some triplets join an atom to its own image"
    harmonics = spherical_harmonics(F.normalize(vectors(batch), dim=1), DEGREES)
    angles = Angles(harmonics[None], edges, DEGREES)
    z_SET = torch.randn(DEGREES, len(edges.src_E), 4, dtype=torch.float64)
    if which == "each":
        z_SET = z_SET[:1].expand(DEGREES, -1, -1)
    terms_SWT = legendre(batch, kj, ji).t()[:, :, None] * z_SET[:, kj]

    def summed(kept: torch.Tensor) -> torch.Tensor:
        each = torch.zeros_like(z_SET).index_add(1, ji[kept], terms_SWT[:, kept])
        return each if which == "each" else each.sum(0)

    found = angles.sum_each(z_SET[None, 0]).flatten(0, 1) if which == "each" else angles.sum_all(z_SET[None])
    found = edges.swapped(found).wait()
    expected = summed(torch.ones_like(ji, dtype=torch.bool))
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-12, atol=1e-12)
    without_images = summed(batch.dst_E[ji] != batch.src_E[kj])
    assert (without_images - expected).abs().max() > 0.1, "the control: images count"


def test_harmonics_obey_the_addition_theorem():
    a, b = F.normalize(torch.randn(2, 50, 3, dtype=torch.float64), dim=2)
    product = spherical_harmonics(a, DEGREES) * spherical_harmonics(b, DEGREES)
    for degree in range(DEGREES):
        expected = eval_legendre(degree, (a * b).sum(1).numpy())
        np.testing.assert_allclose(product[:, degree**2 : (degree + 1) ** 2].sum(1), expected, atol=1e-13)


def test_radial_part_is_a_spherical_bessel_function_with_zeros_at_the_cutoff():
    basis = SphericalBesselBasis(DEGREES, 6, CUTOFF)
    length = torch.linspace(0.4, CUTOFF - 1e-9, 60, dtype=torch.float64)
    x = length.numpy() / CUTOFF
    factor = (envelope(length / CUTOFF, 6) / (length / CUTOFF)).numpy()
    for degree, rows in enumerate(basis(length).unbind()):
        for n, zero in enumerate(basis.zero_SR[degree].tolist()):
            norm = np.sqrt(2) / abs(spherical_jn(degree + 1, zero)) * np.sqrt((2 * degree + 1) / (4 * np.pi))
            expected = norm * spherical_jn(degree, zero * x) * factor
            np.testing.assert_allclose(rows[:, n], expected, atol=1e-10)
            assert spherical_jn(degree, zero) == pytest.approx(0, abs=1e-12)
    single = basis(length.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), basis(length), rtol=1e-4, atol=1e-5)


def test_envelope_leaves_the_cutoff_smoothly():
    x = torch.tensor([0.0, 1.0 - 1e-4, 1.0, 1.2], dtype=torch.float64)
    for p in (5, 6):
        value = envelope(x, p)
        assert value[0] == 1
        assert 0 < value[1] < 1e-9, "third order"
        assert (value[2:] == 0).all()


def by_triplets(layer: Interaction, h: torch.Tensor, m: torch.Tensor, batch: Graphs, bases: tuple) -> tuple:
    """A layer's equations written out term by term, with triplets c -> a <- b."""
    radial, atom, circular = bases
    (kj, ji), edges = triplets(batch.edges), batch.edges
    meeting, root = layer.meeting, meeting_scale(layer)
    x = F.silu(F.silu(m @ meeting.other.weight.t()) * (radial @ meeting.gate.weight.t()) @ meeting.down.weight.t())
    # the edge that answers, i -> j, is the reversal of j -> i
    ij = edges.reverse_E[ji]
    basis = torch.einsum("wsc,ws->wc", circular[ij], legendre(batch, kj, ji))
    terms = torch.einsum("wc,wt,ctb->wb", basis, x[kj], meeting.bilinear)
    answer = root * m.new_zeros(len(m), terms.shape[1]).index_add(0, ij, terms)
    up, swapped = F.silu(answer @ meeting.up.weight.t()), F.silu(answer @ meeting.up_swapped.weight.t())
    heard = (up + swapped[edges.reverse_E]) / 2**0.5

    def residual(r, value):
        return value + F.silu(F.silu(value @ r.first.weight.t()) @ r.second.weight.t())

    value = (F.silu(m @ layer.skip.weight.t()) + heard) / 2**0.5
    m = m + layer.scale * residual(layer.before_skip[0], value)
    for r in layer.after_skip:
        m = residual(r, m)
    gated = m * (atom @ layer.atoms.gate.weight.t())
    value = root * m.new_zeros(len(h), m.shape[1]).index_add(0, batch.dst_E, gated)
    value = F.silu(value @ layer.atoms.mlp[0].weight.t())
    for r in layer.atoms.mlp[1:]:
        value = residual(r, value)
    h = h + layer.scale * value
    dst, src = layer.concat.ends.weight.chunk(2)
    joined = torch.cat([h[batch.dst_E], h[batch.src_E], m], 1) @ torch.cat([dst, src, layer.concat.edge.weight], 1).t()
    return h, m + layer.scale * residual(layer.after_concat[0], F.silu(joined))


def meeting_scale(layer: Interaction) -> float:
    return float(layer.meeting.sum_scale)


def test_a_layer_of_gemnet_is_its_equations_over_listed_triplets(batch):
    torch.manual_seed(0)
    config = GemNetTConfig(width=8, depth=1, node_width=6, triplet_width=5, bilinear_width=4)
    model = build(config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0).double()
    seen = {}
    model.trunk.layers[0].register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs, output=output))
    model(batch)
    (h, m, bases), found = seen["inputs"], seen["output"]
    shared = bases.meeting_KEC[0], bases.atom_KEC[0], bases.circular_KESC[0]
    expected = by_triplets(model.trunk.layers[0], h[0], m[0], batch, shared)
    model.trunk.layers[0].meeting.bilinear.data[3, 2, 1] *= 1.01
    off = by_triplets(model.trunk.layers[0], h[0], m[0], batch, shared)
    assert (off[1] - expected[1]).abs().max() > 1e-7, "the control: a weight that is a hundredth off is seen"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[0], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("angle", [60, 120])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_that_lead_back_are_found_where_images_lie_symmetrically(angle, dtype):
    """Hexagonal cells with the axis along each direction, one atom, many images."""
    turned = np.deg2rad(angle)
    flat = 2.5 * np.array([[1, 0, 0], [np.cos(turned), np.sin(turned), 0], [0, 0, 1.6]])
    for axes in ([0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]):
        batch = graphs(np.zeros(1, int), np.zeros((1, 3)), flat[:, axes], np.ones(3, bool))
        shift = batch.shift_E3.to(dtype)
        back = reversed_edges(batch.src_E, batch.dst_E, shift, 1)
        torch.testing.assert_close(shift[back], -shift)
        assert (back[back] == torch.arange(len(back))).all()


def test_list_of_neighbours_that_is_not_symmetric_is_refused():
    batch = graphs(*crystal(1))
    with pytest.raises(DataError, match="has none that leads back"):
        reversed_edges(batch.src_E[1:], batch.dst_E[1:], batch.shift_E3[1:], 5)


def test_energies_under_bf16_do_not_change_when_a_structure_is_turned():
    """Sums over angles in bf16 would make them change by about a hundredth."""
    torch.manual_seed(0)
    config = DimeNetPlusPlusConfig(width=32, depth=2, num_radial=6)
    model = build(config, num_elements=3, cutoff_ang=CUTOFF, mean_degree=20.0, scale_ev=1.0)
    element, x, cell, pbc = crystal(3)
    energies = []
    for seed in range(6):
        turn = rotation(seed)
        batch = graphs(element, x @ turn.T, cell @ turn.T, pbc)
        batch = replace(batch, x_N3=batch.x_N3.float(), shift_E3=batch.shift_E3.float())
        with torch.autocast("cpu", torch.bfloat16):
            energies.append(float(model(batch)[0]))
    assert np.ptp(energies) < 1e-3 * abs(np.mean(energies))
