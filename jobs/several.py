"""Several tasks that one model learns: stem and backbone serve all, each task has a head of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.model import Model
from models.objectives.base import Objective


class Several(nn.Module):
    """The first task is measured and predicts. batch["task"] is the number of a batch's task, else it is 0.

    Its weights are those of the first task, under `main`, and the other tasks' heads.
    """

    def __init__(self, tasks: Sequence[Objective]) -> None:
        super().__init__()
        self.main, *others = tasks
        for other in others:
            other.model.stem, other.model.backbone = self.main.model.stem, self.main.model.backbone
        self.heads = nn.ModuleList(other.model.head for other in others)
        self._tasks = tuple(tasks)  # no modules of this one: most of their weights are main's

    @property
    def model(self) -> Model:
        return self.main.model

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the batch's task gives."""
        found: dict[str, Tensor] = self._tasks[batch.get("task", 0)](batch)
        return found

    def train(self, mode: bool = True) -> "Several":
        """Also of the tasks that are no modules of this one."""
        for task in self._tasks[1:]:
            task.train(mode)
        return super().train(mode)

    def predict(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the first task."""
        return self.main.predict(batch)

    def metrics(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the first task."""
        return self.main.metrics(outputs, batch)

    def confusion(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """Of the first task."""
        return self.main.confusion(outputs, batch)
