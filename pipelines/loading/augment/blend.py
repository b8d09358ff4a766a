"""Batches whose samples are blended in pairs, with labels as shares of classes."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipelines.loading.buffers import Batch

INPUTS = ("image", "video", "cube")  # the fields that are blended, rows and columns last
MODES = ("mixup", "cutmix")


def blend(batch: Batch, rng: np.random.Generator, *, alphas: Mapping[str, float], num_classes: int) -> Batch:
    """One of MODES, drawn for the batch, between each sample and the one opposite in the batch.

    alphas: of the Beta distribution that the share is drawn from, for each mode that may be drawn.
    Adds `soft_label` (b, num_classes) float32. Zhang et al., arXiv 1710.09412, eq. 1; Yun et al., arXiv
    1905.04899, eq. 1 and 2. ValueError for a sample without a label.
    """
    if (batch["label"] < 0).any():
        raise ValueError("blend needs a label on every sample; set labelled")
    modes = sorted(alphas)
    mode = modes[int(rng.integers(len(modes)))]
    share = float(rng.beta(alphas[mode], alphas[mode]))
    out = dict(batch)
    for name in INPUTS:
        if name in batch:
            out[name], share = (_mixup if mode == "mixup" else _cutmix)(batch[name], share, rng)
    labels = torch.nn.functional.one_hot(batch["label"], num_classes).float()
    out["soft_label"] = share * labels + (1 - share) * labels.flip(0)
    return out


def check_alphas(alphas: Mapping[str, float]) -> None:
    """ValueError says what a blend may be."""
    if not alphas or set(alphas) - set(MODES) or min(alphas.values()) <= 0:
        raise ValueError(f"blend: want {MODES} with numbers above 0, got {dict(alphas)}")


def _mixup(x: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    return share * x + (1 - share) * x.flip(0), share


def _cutmix(x: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """A box of 1 - share of the area from the other sample; the share is what is left after rounding."""
    height, width = x.shape[-2:]
    tall, wide = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    out = x.clone()
    out[..., top : top + tall, left : left + wide] = x.flip(0)[..., top : top + tall, left : left + wide]
    return out, 1 - tall * wide / (height * width)
