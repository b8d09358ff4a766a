"""Shards to tensors."""

from pipelines.loading.loader import Batch, Loader, collate, load_sample

__all__ = ["Batch", "Loader", "collate", "load_sample"]
