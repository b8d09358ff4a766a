"""What is asked of every part, whatever its kind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

Ask = Callable[..., None]


class Call(nn.Module):
    """A part and how it is called, with tensors alone as arguments."""

    def __init__(self, part: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(self.part, *tensors)


@pytest.fixture
def one_graph() -> Ask:
    """one_graph(part, lambda part, x: part(x, layout), x): compiled without a break, the same numbers."""

    def ask(part: nn.Module, function: Callable[..., Any], *tensors: Tensor) -> None:
        torch._dynamo.reset()  # all parts are called by the same forward, which may be compiled eight times
        call = Call(part, function)
        assert_close(torch.compile(call, backend="eager", fullgraph=True)(*tensors), call(*tensors))

    return ask


@pytest.fixture
def exports() -> Ask:
    """Like `one_graph`, for torch.export."""

    def ask(part: nn.Module, function: Callable[..., Any], *tensors: Tensor) -> None:
        call = Call(part, function)
        assert_close(torch.export.export(call, tensors).module()(*tensors), call(*tensors))

    return ask
