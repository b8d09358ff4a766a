"""Shards to tensors."""

from pipelines.loading.buffers import Batch, collate
from pipelines.loading.loader import Loader
from pipelines.loading.packing import Packs, Patches, Points
from pipelines.loading.source import Part, load_sample

__all__ = ["Batch", "Loader", "Packs", "Part", "Patches", "Points", "collate", "load_sample"]
