"""One batch of graphs over several ranks: who holds what, and what they exchange.

Each rank of a graph-parallel group holds consecutive atoms and the edges that end at them, cut so that all have about
as many edges. Sums over an atom's edges, and over the angles between them, are therefore a rank's own; what ranks
exchange is what crosses an edge: features of neighbours that another rank holds, and messages of reversed edges.
"""

from scaling.parallel.exchange import Arrival, Exchange, total
from scaling.parallel.groups import ALONE, Group
from scaling.parallel.share import Share, divide, reversed_edges

__all__ = ["ALONE", "Arrival", "Exchange", "Group", "Share", "divide", "reversed_edges", "total"]
