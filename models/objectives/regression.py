"""Numbers of a sample or of each frame; directions, if the head gives unit vectors."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from models.heads.regression import RegressionHead
from models.model import Model
from models.objectives.base import OBJECTIVES, Batch, Objective


@OBJECTIVES.register
class Regression(Objective):
    """Unit vectors: mean of 1 - cos(angle to batch[target]); other numbers: mean squared error."""

    head = "regression"

    def __init__(self, model: Model, inputs: Mapping[str, str], *, target: str = "light") -> None:
        super().__init__(model, inputs)
        self.target = target
        self.unit = isinstance(model.head, RegressionHead) and model.head.unit

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        value = self.answer(batch).float()
        if self.target not in batch:
            return {"prediction": value}
        target = self._target(value, batch)
        if self.unit:
            loss = (1 - F.cosine_similarity(value, target, dim=-1)).mean()
        else:
            loss = F.mse_loss(value, target)
        return {"prediction": value, "loss": loss}

    @torch.no_grad()
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"value": self.answer(batch).float()}

    @torch.no_grad()
    def metrics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        value = outputs["prediction"]
        target = self._target(value, batch)
        if not self.unit:
            return {"absolute_error": (value - target).abs().flatten(1).mean(1)}
        across = torch.linalg.cross(value, F.normalize(target, dim=-1)).norm(dim=-1)
        along = (value * F.normalize(target, dim=-1)).sum(-1)
        degrees = torch.atan2(across, along).rad2deg()  # acos would lose small angles
        return {"angular_error_deg": degrees.flatten(1).mean(1) if degrees.ndim > 1 else degrees}

    def _target(self, value: Tensor, batch: Batch) -> Tensor:
        target = batch[self.target].float()
        if target.shape == value.shape[:-1] and value.shape[-1] == 1:
            target = target[..., None]
        if target.shape != value.shape:
            raise ValueError(
                f"batch[{self.target!r}] must have the prediction's shape {tuple(value.shape)}, "
                f"got {tuple(target.shape)}"
            )
        return target
