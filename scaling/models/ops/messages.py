"""The work on edges, where a network spends its time: gather, phi_e, and sums over each atom's edges.

Written out with its derivatives. Edge tensors are large, and autograd would walk through memory some thirty times a
layer and keep half a dozen of them; here blocks of edges stay in the cache and one tensor per edge and feature is kept.
Derivatives along a direction of the positions can be carried along as tangents (see `scaling/models/forces.py`).

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, E edges, b edges of one block, F features, R
radial functions, 3 Cartesian.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scaling.models.ops.activation import Silu, silu_rows
from scaling.models.ops.edges import Block, Edges
from scaling.models.ops.linear import AFTER_SILU, normal


class MessageNet(nn.Module):
    """phi_e, phi_x and their sums over neighbours (Satorras et al. 2021, eqs. 3-5), with a cut-off f.

    z_ij = dst_i + src_j + first^T features_ij,   m_ij = silu(second^T silu(z_ij) + bias) f_ij,
    returns sum_j m_ij (K, N, F) and sum_j (m_ij . move) unit_ij (K, N, 3).

    Args:
        width: F. num_features: R, of an edge. second: without it, m_ij = silu(z_ij) f_ij. sums: whether the first sum
            is wanted. move_gain: initial size of `move`; None: the second sum is not wanted.
    """

    def __init__(self, width: int, num_features: int, *, second: bool, sums: bool, move_gain: float | None) -> None:
        super().__init__()
        self.sums = sums
        self.first = normal(num_features, width)
        self.second = normal(width, width, std=AFTER_SILU / math.sqrt(width)) if second else None
        self.bias = nn.Parameter(torch.zeros(width)) if second else None
        self.move = None
        if move_gain is not None:
            self.move = normal(width, std=move_gain / math.sqrt(width))

    def forward(
        self,
        ends_KMF: Tensor,
        radial_KRE: Tensor,
        moved_KE: Tensor | None,
        envelope_KE: Tensor,
        unit_KE3: Tensor,
        edges: Edges,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Returns the two sums; one that is not wanted is None.

        Args:
            ends_KMF: dst_i of the rank's atoms, then src_j of these and its halo (M of both). radial_KRE, moved_KE:
                features of the edges. envelope_KE: f. unit_KE3: directions.
        """
        parameters = self.first, self.second, self.bias, self.move
        return _Messages.apply(  # type: ignore[no-any-return]
            edges, self.sums, ends_KMF, radial_KRE, moved_KE, envelope_KE, unit_KE3, *parameters
        )


class _Messages(torch.autograd.Function):
    """The sums of `MessageNet`, block by block, with their derivative; for tangents (K = 2) not that by the geometry.

    Inside, a quantity is a list of its value and, if K = 2, its tangent.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        edges: Edges,
        sums: bool,
        ends_KMF: Tensor,
        radial_KRE: Tensor,
        moved_KE: Tensor | None,
        envelope_KE: Tensor,
        unit_KE3: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        (K, _, width), N, kind = ends_KMF.shape, edges.num_atoms, ends_KMF.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else ends_KMF.dtype
        with torch.autocast(kind, enabled=False):
            ends, radial, moved, first, second, bias, move = _cast(dtype, ends_KMF, radial_KRE, moved_KE, *parameters)
            z2_KEF = None if second is None else ends.new_empty(K, len(edges.src_E), width)
            sum_KNF = ends.new_empty(K, N, width) if sums else None
            move_KN3 = None if move is None else unit_KE3.new_empty(K, N, 3)
            for block in edges.blocks(width):
                f = envelope_KE[:, block.edges].unbind()
                m = silu_rows(_first_layer(block, ends, _features(block, radial, moved), first))
                if z2_KEF is not None:
                    m = silu_rows(_second_layer(m, second, bias, z2_KEF[:, block.edges]))
                if sum_KNF is not None:
                    _store(sum_KNF[:, block.atoms], _sum_products(block, m, _cast(dtype, *f)))
                if move_KN3 is not None:
                    pull = _products([(value @ move).to(f[0].dtype) for value in m], f)
                    _store(move_KN3[:, block.atoms], _sum_products(block, unit_KE3[:, block.edges].unbind(), pull))
        ctx.edges, ctx.dtype = edges, dtype
        ctx.save_for_backward(ends_KMF, radial_KRE, moved_KE, envelope_KE, unit_KE3, *parameters, z2_KEF)
        return sum_KNF, move_KN3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sum_grad_KNF: Tensor | None, move_grad_KN3: Tensor | None) -> Any:
        saved = ctx.saved_tensors
        with torch.autocast(saved[0].device.type, enabled=False):
            found = _Gradients(ctx, saved, sum_grad_KNF, move_grad_KN3)
            for block in ctx.edges.blocks(saved[0].shape[2]):
                found.add(block)
        parameters = found.parameters
        by_parameters = parameters.first, parameters.second, parameters.bias, parameters.move
        return None, None, *found.of_inputs(), *by_parameters


class _ByParameters:
    """Gradients of the parameters; None, and nothing added, where they are not wanted."""

    def __init__(self, parameters: Sequence[Tensor | None], *, is_wanted: bool) -> None:
        self.first, self.second, self.bias, self.move = (
            torch.zeros_like(p) if is_wanted and p is not None else None for p in parameters
        )

    def add_first(self, features_Rb: Tensor, z_grad_bF: Tensor) -> None:
        """Of the first layer, which reads the edges' features."""
        if self.first is not None:
            _add_product(self.first, features_Rb, z_grad_bF)

    def add_second(self, silu: Silu, z_grad: Sequence[Tensor]) -> None:
        """Of the second layer, which reads the first one's activations."""
        if self.second is not None and self.bias is not None:
            for value, grad in zip(silu.values(), z_grad, strict=True):
                _add_product(self.second, value.t(), grad)
            self.bias += z_grad[0].sum(0)

    def add_move(self, m: Sequence[Tensor], dot_grad: Sequence[Tensor]) -> None:
        """Of m . move."""
        if self.move is not None:
            for value, grad in zip(m, dot_grad, strict=True):
                self.move += value.t() @ grad.to(value.dtype)


class _ByGeometry:
    """Gradients of the envelope and the directions; nothing is added where they are not wanted."""

    def __init__(self, envelope_KE: Tensor, unit_KE3: Tensor, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self.envelope, self.unit = (torch.zeros_like(t) if is_wanted else None for t in (envelope_KE, unit_KE3))

    def add_sums(self, block: Block, m: Sequence[Tensor], sum_grad_NF: Tensor) -> None:
        """Of each atom's sum of messages."""
        if self.envelope is not None:
            self.envelope[0, block.edges] += (sum_grad_NF.index_select(0, block.dst_b) * m[0]).sum(1)

    def add_pulls(self, block: Block, f: Tensor, dot: Tensor, move_grad_b3: Tensor, pull_grad_b: Tensor) -> None:
        """Of the pulls f (m . move) along each edge."""
        if self.envelope is not None and self.unit is not None:
            dot = dot.to(f.dtype)
            self.envelope[0, block.edges] += pull_grad_b * dot
            torch.mul((f * dot)[:, None], move_grad_b3, out=self.unit[0, block.edges])


class _Gradients:
    """What backward of `_Messages` finds, block by block."""

    def __init__(
        self, ctx: Any, saved: Sequence[Any], sum_grad_KNF: Tensor | None, move_grad_KN3: Tensor | None
    ) -> None:
        ends_KMF, radial_KRE, moved_KE, envelope_KE, unit_KE3, *parameters, self.z2_KEF = saved
        by_geometry, by_parameters = ctx.needs_input_grad[6], ctx.needs_input_grad[7]
        assert not (by_geometry and len(ends_KMF) == 2), "tangents are carried along a direction that is given"
        self.dtypes = ends_KMF.dtype, radial_KRE.dtype, None if moved_KE is None else moved_KE.dtype
        self.envelope_KE, self.unit_KE3, self.move_grad_KN3 = envelope_KE, unit_KE3, move_grad_KN3
        self.num_atoms, self.num_radial = ctx.edges.num_atoms, radial_KRE.shape[1]
        cast = _cast(ctx.dtype, ends_KMF, radial_KRE, moved_KE, *parameters)
        self.ends, self.radial, self.moved, self.first, self.second, _, self.move = cast
        self.parameters = _ByParameters(parameters, is_wanted=by_parameters)
        self.geometry = _ByGeometry(envelope_KE, unit_KE3, is_wanted=by_geometry)
        self.ends_grad = torch.zeros_like(self.ends, dtype=torch.promote_types(ctx.dtype, torch.float32))
        self.wanted_first = self.first if by_geometry else self.first[self.num_radial :]  # of which features
        self.features_grad = self.radial.new_empty(len(ends_KMF), len(self.wanted_first), radial_KRE.shape[2])
        # The gradient of a message is a weighted sum of rows of this table: of its atom's sums, and of `move`.
        self.sum_grads = [] if sum_grad_KNF is None else list(sum_grad_KNF.to(ctx.dtype))
        self.table = torch.cat(self.sum_grads if self.move is None else [*self.sum_grads, self.move[None]])

    def add(self, block: Block) -> None:
        """Add what the edges of a block contribute."""
        f = self.envelope_KE[:, block.edges].unbind()
        features = _features(block, self.radial, self.moved)
        silu_1 = Silu(_first_layer(block, self.ends, features, self.first))
        silu_2 = silu_1 if self.second is None else Silu(self.z2_KEF[:, block.edges].unbind())
        z_grad = silu_2.backward(self._of_messages(block, f, silu_2))
        if self.second is not None:
            self.parameters.add_second(silu_1, z_grad)
            z_grad = silu_1.backward([grad @ self.second.t() for grad in z_grad])
        for k, grad in enumerate(z_grad):
            self.parameters.add_first(features[k], grad)
            torch.mm(self.wanted_first, grad.t(), out=self.features_grad[k][:, block.edges])
            self.ends_grad[k, block.atoms] = block.sum_to_dst(grad)
            block.add_to_src(self.ends_grad[k, self.num_atoms :], grad)

    def _of_messages(self, block: Block, f: Sequence[Tensor], silu: Silu) -> list[Tensor]:
        """Of each edge's message, the last layer's activation `silu` before the envelope f."""
        K = len(f)
        m = silu.values() if self.geometry.is_wanted or self.move is not None else []
        index: list[list[Tensor]] = [[] for _ in f]
        weight: list[list[Tensor]] = [[] for _ in f]
        if self.sum_grads:
            index = [[block.dst_b + j * self.num_atoms for j in range(k, K)] for k in range(K)]
            weight = [list(f[: K - k]) for k in range(K)]
            self.geometry.add_sums(block, m, self.sum_grads[0])
        if self.move is not None:
            for k, grad in enumerate(self._of_dots(block, f, m)):
                index[k].append(torch.full_like(block.dst_b, len(self.table) - 1))
                weight[k].append(grad)
        return [block.sum_rows(self.table, index[k], weight[k]) for k in range(K)]

    def _of_dots(self, block: Block, f: Sequence[Tensor], m: Sequence[Tensor]) -> list[Tensor]:
        """Of m . move, by which each edge pulls along its direction."""
        assert self.move_grad_KN3 is not None, "what moves has a gradient"
        h = [value.index_select(0, block.dst_b) for value in self.move_grad_KN3]
        pull_grad = [value.sum(1) for value in _products_backward(h, self.unit_KE3[:, block.edges].unbind())]
        dot_grad = _products_backward(pull_grad, f)
        if self.geometry.is_wanted:
            self.geometry.add_pulls(block, f[0], m[0] @ self.move, h[0], pull_grad[0])
        self.parameters.add_move(m, dot_grad)
        return dot_grad

    def of_inputs(self) -> list[Tensor | None]:
        """Of ends, radial functions, moved, envelope and directions; None where none is wanted."""
        ends_dtype, radial_dtype, moved_dtype = self.dtypes
        radial_grad = self.features_grad[:, : self.num_radial].to(radial_dtype) if self.geometry.is_wanted else None
        moved_grad = None if moved_dtype is None else self.features_grad[:, -1].to(moved_dtype)
        return [self.ends_grad.to(ends_dtype), radial_grad, moved_grad, self.geometry.envelope, self.geometry.unit]


def _cast(dtype: torch.dtype, *tensors: Any) -> list[Any]:
    return [None if tensor is None else tensor.detach().to(dtype) for tensor in tensors]


def _store(out: Tensor, values: list[Tensor]) -> None:
    for place, value in zip(out, values, strict=True):
        place.copy_(value)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _features(block: Block, radial_KRE: Tensor, moved_KE: Tensor | None) -> list[Tensor]:
    """(R, b), or (R + 1, b) with how far atoms have moved."""
    radial_KRb = radial_KRE[:, :, block.edges]
    if moved_KE is None:
        return list(radial_KRb)
    return list(torch.cat([radial_KRb, moved_KE[:, None, block.edges]], dim=1))


def _first_layer(block: Block, ends_KMF: Tensor, features: list[Tensor], first_RF: Tensor) -> list[Tensor]:
    pairs = zip(ends_KMF, features, strict=True)
    return [block.add_ends(ends).addmm_(features_Rb.t(), first_RF) for ends, features_Rb in pairs]


def _second_layer(a: list[Tensor], second_FF: Tensor, bias_F: Tensor, out_KbF: Tensor) -> Sequence[Tensor]:
    out = out_KbF.unbind()
    torch.addmm(bias_F, a[0], second_FF, out=out[0])
    if len(a) == 2:
        torch.mm(a[1], second_FF, out=out[1])
    return out


def _sum_products(block: Block, x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
    """Sums over each atom's edges of x (b, F) times y (b,)."""
    value = block.sum_to_dst(x[0], y[0])
    return [value] if len(x) == 1 else [value, block.sum_to_dst(x[1], y[0]) + block.sum_to_dst(x[0], y[1])]


def _products(x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
    value = x[0] * y[0]
    return [value] if len(x) == 1 else [value, x[1] * y[0] + x[0] * y[1]]


def _products_backward(grad: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of x in `_products`."""
    if len(grad) == 1:
        return [grad[0] * y[0]]
    return [grad[0] * y[0] + grad[1] * y[1], grad[1] * y[0]]
