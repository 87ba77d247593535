"""Shards into batches: which structures a step takes, their edges, and how they become one graph."""

from scaling.data.loading.graph import Graph, join
from scaling.data.loading.loader import GraphDataset, Loader
from scaling.data.loading.sampler import EvaluationSampler, MicroBatch, TrainSampler, stream

__all__ = ["EvaluationSampler", "Graph", "GraphDataset", "Loader", "MicroBatch", "TrainSampler", "join", "stream"]
