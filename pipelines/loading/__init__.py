"""Shards to tensors."""

from pipelines.loading.buffers import Batch, collate
from pipelines.loading.loader import Loader
from pipelines.loading.source import Part, load_sample

__all__ = ["Batch", "Loader", "Part", "collate", "load_sample"]
