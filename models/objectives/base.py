"""What every objective promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.model import Model
from models.registry import Registry, options_of, suggest

Batch = Mapping[str, Tensor]


class Objective(nn.Module, ABC):
    """task(batch) -> {"prediction", and "loss" when the batch has the target}."""

    head: ClassVar[str]  # the part that answers it

    def __init__(self, model: Model, inputs: Mapping[str, str]) -> None:
        super().__init__()
        known = ["x", *options_of(Model.forward)]
        for argument in inputs:
            if argument not in known:
                raise LookupError(
                    f"the model takes no {argument!r}; did you mean one of {suggest(argument, known)}?"
                )
        if "x" not in inputs:
            raise LookupError(f'inputs must say which field is "x", got {dict(inputs)}')
        self.model, self.inputs = model, dict(inputs)

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]: ...

    @abstractmethod
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """What to store for each sample; needs no target, keeps no gradient. Call `eval()` before."""

    @abstractmethod
    def metrics(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One number a sample, from what `forward` gave; their mean (`nanmean`) is the metric."""

    def confusion(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor | None:
        """Counts (k, k) of (true class, predicted class), where a metric needs all samples at once."""
        return None

    def arguments(self, batch: Batch) -> dict[str, Tensor]:
        """The model's arguments, taken from the batch; LookupError names a field that is not there."""
        if missing := [field for field in self.inputs.values() if field not in batch]:
            raise LookupError(f"the batch has no {missing}; it has {sorted(batch)}")
        return {argument: batch[field] for argument, field in self.inputs.items()}

    def answer(self, batch: Batch) -> Tensor:
        """What the model says about the batch."""
        return self.model(**self.arguments(batch))


OBJECTIVES: Registry[Objective] = Registry("models.objectives")


def mean_where(values: Float[Tensor, "b ..."], keep: Tensor) -> Float[Tensor, " b"]:
    """Mean of each sample over the places kept; NaN where none is."""
    weight = keep.to(values.dtype).flatten(1)
    total = (values.flatten(1) * weight).sum(1)
    return torch.where(weight.sum(1) > 0, total / weight.sum(1).clamp(min=1), torch.nan)
