"""The loader's batch as the models want it."""

from typing import TYPE_CHECKING

from scaling.models import Graphs

if TYPE_CHECKING:  # takes a second, which plans need not wait for
    from torch_geometric.data import Data


def to_graphs(batch: "Data") -> Graphs:
    """The same tensors by the models' names; nothing is copied."""
    return Graphs(
        element_N=batch.z,
        x_N3=batch.pos,
        src_E=batch.edge_index[0],
        dst_E=batch.edge_index[1],
        shift_E3=batch.shift,
        graph_N=batch.batch,
        num_graphs=len(batch.num_atoms),
    )
