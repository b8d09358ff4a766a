"""What every backbone promises."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from models.block import Block
from models.layout import Layout, Stage, Tokens
from models.mixers.base import MIXERS
from models.positions.fourier import FourierPosition
from models.registry import Registry

Mixers = Sequence[Mapping[str, Any]]  # {"name": "window", "window": 7}, ...; blocks take them in turn


class Backbone(nn.Module, ABC):
    """Tokens of the stem -> one Stage or several; the first has the stem's own tokens."""

    dims: tuple[int, ...]  # channels of each stage
    position: nn.Module | None

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> list[Stage]: ...


BACKBONES: Registry[Backbone] = Registry("models.backbones")


def stack(
    dim: int,
    mixers: Mixers,
    drop_rates: Sequence[float],
    *,
    before: int = 0,
    mlp_ratio: float,
    layer_scale: float | None,
) -> nn.ModuleList:
    """One block for each rate; their mixers are taken in turn, counting the blocks `before` these."""

    def blocks() -> Iterator[Block]:
        for i, rate in enumerate(drop_rates):
            name, options = split_name(mixers[(before + i) % len(mixers)])
            mixer = MIXERS.create(name, dim, **options)
            yield Block(dim, mixer, mlp_ratio=mlp_ratio, drop_path=rate, layer_scale=layer_scale)

    return nn.ModuleList(blocks())


def run(blocks: nn.Module, x: Tokens, layout: Layout) -> Tokens:
    """Blocks one after the other."""
    for block in blocks.children():
        x = block(x, layout)
    return x


def split_name(part: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """{"name": "window", "window": 7} -> "window", {"window": 7}."""
    options = dict(part)
    return options.pop("name"), options


def ramp(end: float, count: int) -> list[float]:
    """`count` numbers from 0 to `end`: deeper blocks are dropped more often."""
    return [end * i / max(count - 1, 1) for i in range(count)]


def position_for(dim: int, axes: int, wanted: bool) -> nn.Module | None:
    """Fourier positions, if wanted."""
    return FourierPosition(dim, axes=axes) if wanted else None
