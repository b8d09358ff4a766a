"""Where tokens lie: the one thing that a mixer knows besides the tokens themselves."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens: TypeAlias = Float[Tensor, "b n d"]
Mask: TypeAlias = Bool[Tensor, "b n"]  # true: a real token; false: padding
Coords: TypeAlias = Float[Tensor, "b n k"]  # where each token sits, k axes
Offsets: TypeAlias = Int[Tensor, " s"]  # 0, end of sequence 1, end of sequence 2, ...
Parent: TypeAlias = Int[Tensor, "b n"]  # token of the stem -> token of this stage


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the tokens lie. A mixer reads what it needs, so `forward` never grows an argument."""

    mask: Mask | None = None
    coords: Coords | None = None
    grid: tuple[int, ...] | None = (
        None  # (h, w), (t, h, w) or (c, h, w), row-major, when tokens fill a raster
    )
    cu_seqlens: Offsets | None = None  # several sequences in one row (b = 1)
    wavelengths: Float[Tensor, "b c"] | None = None  # nm, of the grid's first axis
    times: Float[Tensor, "b t"] | None = None  # s, of the grid's first axis
    prefix: int = 0  # tokens before those of the raster that lie nowhere: class token, registers

    def need_grid(self, axes: int, who: str) -> tuple[int, ...]:
        """The grid, if it has `axes` axes."""
        if self.grid is None or len(self.grid) != axes:
            raise ValueError(f"{who} needs a grid of {axes} axes in the layout, got {self.grid}")
        return self.grid

    def with_(self, **changes: object) -> "Layout":
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]


class Stage(NamedTuple):
    """What a backbone hands to a head: tokens after one stage, and which of them each stem token went to."""

    tokens: Tokens
    layout: Layout
    parent: Parent | None = None  # None: the stage has the stem's own tokens, or a grid that says it
    prefix: Tokens | None = None  # class token and registers, which belong to no place

    def map(self) -> Tensor:
        """Tokens as a raster: (b, n, d) -> (b, d, *grid)."""
        if self.layout.grid is None:
            raise ValueError("these tokens fill no raster; read stage.tokens and stage.layout.coords instead")
        return self.tokens.mT.unflatten(-1, self.layout.grid)


def split_prefix(x: Tokens, layout: Layout) -> tuple[Tokens, Tokens, Layout]:
    """The tokens that lie nowhere, those that fill the raster, and the layout of the latter."""
    k = layout.prefix
    mask = None if layout.mask is None else layout.mask[:, k:]
    return x[:, :k], x[:, k:], layout.with_(prefix=0, mask=mask)


def check_grid(grid: tuple[int, ...], tokens: Tokens, who: str) -> None:
    """Refuse tokens that do not fill the grid."""
    if math.prod(grid) != tokens.shape[1]:
        raise ValueError(f"{who} got {tokens.shape[1]} tokens for a grid of {grid} = {math.prod(grid)}")
