"""The class of every pixel or point."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from models.model import Model
from models.objectives.base import OBJECTIVES, Batch, Objective, mean_where

IGNORED = -1


@OBJECTIVES.register
class Segmentation(Objective):
    """Cross-entropy over the places whose batch[target] is not -1; points hidden by the mask are ignored too.

    Prediction: logits (b, k, h, w), (b, k, t, h, w) or (b, n, k); target the same without k, int64.
    """

    head = "segmentation"

    def __init__(self, model: Model, inputs: Mapping[str, str], *, target: str = "segmentation") -> None:
        super().__init__(model, inputs)
        self.target = target
        self.axis = -1 if model.stem.shape == "b n f" else 1  # points have their classes last

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.answer(batch).float()
        if self.target not in batch:
            return {"prediction": logits}
        target = self._target(logits, batch)
        total = F.cross_entropy(logits.movedim(self.axis, 1), target, ignore_index=IGNORED, reduction="sum")
        return {"prediction": logits, "loss": total / (target != IGNORED).sum().clamp(min=1)}

    @torch.no_grad()
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"segmentation": self.answer(batch).argmax(self.axis)}

    @torch.no_grad()
    def metrics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """A sample without any labelled place has NaN."""
        target = self._target(outputs["prediction"], batch)
        right = outputs["prediction"].argmax(self.axis) == target
        return {"pixel_accuracy": mean_where(right.float(), target != IGNORED)}

    @torch.no_grad()
    def confusion(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Labelled places alone."""
        target = self._target(outputs["prediction"], batch)
        k, kept = outputs["prediction"].shape[self.axis], target != IGNORED
        said = outputs["prediction"].argmax(self.axis)[kept]
        return torch.bincount(target[kept] * k + said, minlength=k * k).view(k, k)

    def _target(self, logits: Tensor, batch: Batch) -> Tensor:
        target = batch[self.target]
        wanted = logits.select(self.axis, 0).shape
        if target.shape != wanted:
            raise ValueError(f"batch[{self.target!r}] must be {tuple(wanted)}, got {tuple(target.shape)}")
        mask = batch.get(self.inputs.get("mask", ""))
        if mask is not None and mask.shape == target.shape:
            target = target.masked_fill(~mask, IGNORED)
        return target
