"""Changes of samples by name, drawn from the sample's own generator."""

from pipelines.loading.augment.chain import Chain, Step

__all__ = ["Chain", "Step"]
