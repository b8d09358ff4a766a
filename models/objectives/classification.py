"""Which class a sample belongs to."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from models.model import Model
from models.objectives.base import OBJECTIVES, Batch, Objective


@OBJECTIVES.register
class Classification(Objective):
    """Cross-entropy of logits (b, k) against batch[target] (b,), int64.

    Of blended samples it is against the shares of the classes, batch["soft_label"] (b, k). Zhang et al.,
    2017, arXiv:1710.09412, eq. 1.
    """

    head = "classification"

    def __init__(
        self,
        model: Model,
        inputs: Mapping[str, str],
        *,
        target: str = "label",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model, inputs)
        self.target, self.label_smoothing = target, label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.answer(batch).float()
        if self.target not in batch:
            return {"prediction": logits}
        truth = batch.get("soft_label", batch[self.target])
        loss = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing)
        return {"prediction": logits, "loss": loss}

    @torch.no_grad()
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.answer(batch).float()
        return {"probabilities": logits.softmax(-1), "label": logits.argmax(-1)}

    @torch.no_grad()
    def metrics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        return {"accuracy": (outputs["prediction"].argmax(-1) == batch[self.target]).float()}
