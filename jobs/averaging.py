"""A moving average of the weights: often better than the weights themselves, and smoother."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jobs.parallel import own_part


class Average:
    """average = d average + (1 - d) weights after step n, with d = min(decay, (1 + n) / (10 + n)).

    The ramp lets the first steps, near the random start, fade. Polyak and Juditsky, 1992, on averaging.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of an average must be between 0 and 1, got {decay}")
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in task.named_parameters()}

    @torch.no_grad()
    def update(self, task: nn.Module, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, p in task.named_parameters():
            self.weights[name].lerp_(p.detach(), share)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with the average of a checkpoint, of which these are this process's parts."""
        for name, own in self.weights.items():
            own_part(own).copy_(weights[name])

    @contextmanager
    def inside(self, task: nn.Module) -> Iterator[None]:
        """The average takes the weights' place for as long as the context lasts."""
        trained = {name: p.detach().clone() for name, p in task.named_parameters()}
        _put(task, self.weights)
        try:
            yield
        finally:
            _put(task, trained)


@torch.no_grad()
def _put(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, p in task.named_parameters():
        p.copy_(weights[name])
