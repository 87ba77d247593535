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
from torch.nn import functional as F

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
            ends_KMF: dst_i of the rank's atoms, then src_j of all that it sees (M of both). radial_KRE, moved_KE:
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
                m = _silu(_first_layer(block, ends, _features(block, radial, moved), first))
                if z2_KEF is not None:
                    m = _silu(_second_layer(m, second, bias, z2_KEF[:, block.edges]))
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
        ends_KMF, radial_KRE, moved_KE, envelope_KE, unit_KE3, *parameters, z2_KEF = ctx.saved_tensors
        edges, dtype = ctx.edges, ctx.dtype
        (K, _, width), N, R = ends_KMF.shape, edges.num_atoms, radial_KRE.shape[1]
        by_geometry, by_parameters = ctx.needs_input_grad[6], ctx.needs_input_grad[7]
        assert not (by_geometry and K == 2), "tangents are carried along a direction that is given"
        with torch.autocast(ends_KMF.device.type, enabled=False):
            ends, radial, moved, first, second, _, move = _cast(dtype, ends_KMF, radial_KRE, moved_KE, *parameters)
            ends_grad = torch.zeros_like(ends, dtype=torch.promote_types(dtype, torch.float32))
            wanted = slice(0 if by_geometry else R, None)  # which features have a gradient
            features_grad = radial.new_empty(K, len(first[wanted]), len(edges.src_E))
            f_grad, unit_grad = (torch.zeros_like(t) if by_geometry else None for t in (envelope_KE, unit_KE3))
            first_grad, second_grad, bias_grad, along_grad = (
                torch.zeros_like(p) if by_parameters and p is not None else None for p in parameters
            )
            # The gradient of a message is a weighted sum of rows of this table: of its atom's sums, and of `move`.
            rows = [] if sum_grad_KNF is None else list(sum_grad_KNF.to(dtype))
            table = torch.cat(rows if move is None else [*rows, move[None]])
            for block in edges.blocks(width):
                f = envelope_KE[:, block.edges].unbind()
                features = _features(block, radial, moved)
                silu_1 = _Silu(_first_layer(block, ends, features, first))
                silu_2 = silu_1 if second is None else _Silu(z2_KEF[:, block.edges].unbind())
                m = silu_2.values() if by_geometry or move is not None else []
                index = [[block.dst_b + j * N for j in range(k, K)] if rows else [] for k in range(K)]
                weight = [list(f[: K - k]) if rows else [] for k in range(K)]
                if move is not None:
                    h = [value.index_select(0, block.dst_b) for value in move_grad_KN3]
                    pull_grad = [value.sum(1) for value in _products_backward(h, unit_KE3[:, block.edges].unbind())]
                    dot_grad = _products_backward(pull_grad, f)  # of m . move
                    for k in range(K):
                        index[k].append(torch.full_like(block.dst_b, len(table) - 1))
                        weight[k].append(dot_grad[k])
                m_grad = [block.sum_rows(table, index[k], weight[k]) for k in range(K)]
                if by_geometry and rows:
                    f_grad[0, block.edges] += (rows[0].index_select(0, block.dst_b) * m[0]).sum(1)
                if by_geometry and move is not None:
                    dot = (m[0] @ move).to(f[0].dtype)
                    f_grad[0, block.edges] += pull_grad[0] * dot
                    torch.mul((f[0] * dot)[:, None], h[0], out=unit_grad[0, block.edges])
                if by_parameters and move is not None:
                    for value, grad in zip(m, dot_grad, strict=True):
                        along_grad += value.t() @ grad.to(dtype)
                z_grad = silu_2.backward(m_grad)
                if second is not None:
                    if by_parameters:
                        for value, grad in zip(silu_1.values(), z_grad, strict=True):
                            _add_product(second_grad, value.t(), grad)
                        bias_grad += z_grad[0].sum(0)
                    z_grad = silu_1.backward([grad @ second.t() for grad in z_grad])
                for k, grad in enumerate(z_grad):
                    if by_parameters:
                        _add_product(first_grad, features[k], grad)
                    torch.mm(first[wanted], grad.t(), out=features_grad[k][:, block.edges])
                    ends_grad[k, block.atoms] = block.sum_to_dst(grad)
                    block.add_to_src(ends_grad[k, N:], grad)
        radial_grad = features_grad[:, :R].to(radial_KRE.dtype) if by_geometry else None
        moved_grad = None if moved_KE is None else features_grad[:, -1].to(moved_KE.dtype)
        by_input = ends_grad.to(ends_KMF.dtype), radial_grad, moved_grad, f_grad, unit_grad
        return None, None, *by_input, first_grad, second_grad, bias_grad, along_grad


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


def _silu(z: Sequence[Tensor]) -> list[Tensor]:
    value = F.silu(z[0])
    return [value] if len(z) == 1 else [value, torch.ops.aten.silu_backward(z[1], z[0])]


class _Silu:
    """SiLU where it is differentiated: once for values, twice for tangents."""

    def __init__(self, z: Sequence[Tensor]) -> None:
        self.z = z
        if len(z) == 2:
            self.s = torch.sigmoid(z[0])
            ds = torch.addcmul(self.s, self.s, self.s, value=-1)
            bend = z[0] * ds
            self.slope = self.s + bend
            self.bend = bend.addcmul_(self.s, bend, value=-2).add_(ds, alpha=2)  # z s'' + 2 s'

    def values(self) -> list[Tensor]:
        return [F.silu(self.z[0])] if len(self.z) == 1 else [self.z[0] * self.s, self.slope * self.z[1]]

    def backward(self, grad: list[Tensor]) -> list[Tensor]:
        """The gradient of z from that of the values."""
        if len(self.z) == 1:
            return [torch.ops.aten.silu_backward(grad[0], self.z[0])]
        return [(grad[0] * self.slope).addcmul_(grad[1] * self.z[1], self.bend), grad[1] * self.slope]


class _SiluOfBoth(torch.autograd.Function):
    """SiLU of values and tangents."""

    @staticmethod
    def forward(ctx: Any, z_KNF: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(z_KNF)
        return torch.stack(_silu(z_KNF.unbind()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KNF: Tensor) -> Tensor:  # type: ignore[override]
        (z_KNF,) = ctx.saved_tensors
        return torch.stack(_Silu(z_KNF.unbind()).backward(list(grad_KNF)))


def silu(z_KNF: Tensor) -> Tensor:
    """SiLU of values, or of values and tangents."""
    return F.silu(z_KNF) if len(z_KNF) == 1 else _SiluOfBoth.apply(z_KNF)  # type: ignore[no-any-return]
