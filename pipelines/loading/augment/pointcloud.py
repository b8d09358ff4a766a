"""x."""

from pipelines.loading.augment.chain import Change

STEPS: dict[str, Change] = {}
