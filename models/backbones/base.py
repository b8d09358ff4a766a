"""What every backbone promises."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from models.block import Block
from models.layout import Layout, Stage, Tokens
from models.mixers.base import MIXERS
from models.positions.base import POSITIONS, Position
from models.registry import Part, Registry, split_part

# Blocks take the mixers in turn: {"name": "window", "window": 7}, ...; {"name": None} is a block without one.
# "block" in one of them changes the options of its Block: {"name": "pool", "block": {"norm": "group"}}.
Mixer = Mapping[str, Any]
Mixers = Sequence[Mixer] | Sequence[Sequence[Mixer]]  # for all stages, or for each stage by itself


class Backbone(nn.Module, ABC):
    """Tokens of the stem -> one Stage or several; the first has the stem's own tokens.

    Built as (axes of the stem's positions, mixers, options of every Block, *, options).
    """

    dims: tuple[int, ...]  # channels of each stage
    position: nn.Module | None

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> list[Stage]: ...


BACKBONES: Registry[Backbone] = Registry("models.backbones")


def stack(
    dim: int,
    axes: int,
    mixers: Sequence[Mixer],
    options: Mapping[str, Any],
    drop_rates: Sequence[float],
    *,
    before: int = 0,
) -> nn.ModuleList:
    """One block for each rate; their mixers are taken in turn, counting the blocks `before` these."""

    def blocks() -> Iterator[Block]:
        for i, rate in enumerate(drop_rates):
            mixer = dict(mixers[(before + i) % len(mixers)])
            own = {**options, **mixer.pop("block", {})}
            name, chosen = split_part(mixer)
            part = None if name is None else MIXERS.create(name, dim, **chosen)
            yield Block(dim, axes, part, drop_path=rate, **own)

    return nn.ModuleList(blocks())


def by_stage(mixers: Mixers, depths: Sequence[int]) -> list[tuple[Sequence[Mixer], int]]:
    """For each stage its mixers, and how many blocks came before it in the same turn."""
    if all(isinstance(item, Mapping) for item in mixers):
        return [(mixers, sum(depths[:i])) for i in range(len(depths))]  # type: ignore[misc]
    if len(mixers) != len(depths):
        raise ValueError(f"mixers are given for {len(mixers)} stages, depths for {len(depths)}")
    return [(stage, 0) for stage in mixers]  # type: ignore[misc]


def run(blocks: nn.Module, x: Tokens, layout: Layout) -> Tokens:
    """Blocks one after the other."""
    for block in blocks.children():
        x = block(x, layout)
    return x


def ramp(end: float, count: int) -> list[float]:
    """`count` numbers from 0 to `end`: deeper blocks are dropped more often."""
    return [end * i / max(count - 1, 1) for i in range(count)]


def position_for(position: Part | None, dim: int, axes: int) -> Position | None:
    """The position that a preset names, if it names one."""
    return None if position is None else POSITIONS.build(position, dim, axes)
