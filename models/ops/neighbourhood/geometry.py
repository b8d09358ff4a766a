"""Which keys are in the neighbourhood of a query, one axis at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Neighbourhood:
    """On each axis: how many keys a query sees, how far apart, and whether it sees later ones.

    A query sees only keys of its own residue modulo the dilation, the `size` nearest of them: at a border the
    window does not shrink but stops, so that a query there sees more on its other side. On a causal axis it
    sees itself and up to size - 1 keys before. An axis with fewer keys is seen whole.
    Source: Hassani et al., 2022, arXiv:2204.07143, eq. 1-3; arXiv:2209.15001, eq. 1-4; causal axes and any
    rank: arXiv:2403.04690, sec. 3.
    """

    size: tuple[int, ...]
    dilation: tuple[int, ...]
    causal: tuple[bool, ...]

    @classmethod
    def on(
        cls,
        axes: int,
        size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        causal: bool | Sequence[bool] = False,
    ) -> "Neighbourhood":
        """From one value for all axes or one for each; ValueError for a wrong number of them."""
        sizes = (size,) * axes if isinstance(size, int) else tuple(size)
        steps = (dilation,) * axes if isinstance(dilation, int) else tuple(dilation)
        causals = (causal,) * axes if isinstance(causal, bool) else tuple(causal)
        if not len(sizes) == len(steps) == len(causals) == axes or min(*sizes, *steps) < 1:
            raise ValueError(
                f"a neighbourhood of {axes} axes needs {axes} positive sizes and dilations, and as many "
                f"choices of causal, got {size}, {dilation}, {causal}"
            )
        return cls(sizes, steps, causals)


@dataclass(frozen=True)
class Axis:
    """One axis of the raster, seen as `step` interleaved ones of at most `count` places."""

    length: int
    size: int
    step: int
    causal: bool

    @property
    def count(self) -> int:
        return -(-self.length // self.step)

    @property
    def uniform(self) -> bool:
        """Whether all interleaved axes are equally long."""
        return self.length % self.step == 0

    @property
    def whole(self) -> bool:
        """Whether every query sees every key of its residue."""
        return not self.causal and self.uniform and self.size >= self.count

    def window(self, residue: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """First key, and one past the last, of the query at `place` among those of its residue."""
        count = ((self.length - residue + self.step - 1) // self.step).clamp(min=1)
        if self.causal:
            return (place - self.size + 1).clamp(min=0), (place + 1).minimum(count)
        first = torch.minimum(place - self.size // 2, count - self.size).clamp(min=0)
        return first, (first + self.size).minimum(count)


def axes_of(grid: Sequence[int], hood: Neighbourhood) -> list[Axis]:
    """The axes of a raster; a dilation beyond an axis leaves each of its places alone, as its length does."""
    parts = zip(grid, hood.size, hood.dilation, hood.causal, strict=True)
    return [Axis(length, size, min(step, length), causal) for length, size, step, causal in parts]
