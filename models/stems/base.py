"""What every stem promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Mask, Tokens
from models.registry import Registry


class Side(NamedTuple):
    """What may come with an array: coords (b, n, 3), wavelengths (b, c) nm, times (b, t) s, mask (b, n)."""

    coords: Tensor | None = None
    wavelengths: Tensor | None = None
    times: Tensor | None = None
    mask: Mask | None = None

    def only(self, who: str, *taken: str) -> None:
        """Refuse what `who` would ignore."""
        for name, value in self._asdict().items():
            if value is not None and name not in taken:
                raise ValueError(f"a {who} stem takes {sorted(taken) or 'nothing'} besides x, got {name}")


class Stem(nn.Module, ABC):
    """Cuts an array into tokens. `cut` and `join` are each other's inverse, up to padding."""

    axes: ClassVar[int]  # of the positions its layout gives
    shape: ClassVar[str]  # of x, for error messages
    cells: int  # output places of one token: pixels of a patch
    patch: int  # pixels along the side of one token; 1 of a point
    values: int  # numbers of one token: what masked reconstruction predicts

    @abstractmethod
    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]: ...

    @abstractmethod
    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        """The raw numbers of each token."""

    @abstractmethod
    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        """Tokens of k * cells numbers -> (b, k, *size), or (b, n, k) for points."""

    def answers(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        """Like `join`, for what is predicted per cell rather than measured."""
        return self.join(values, size)

    def check(self, x: Tensor) -> None:
        """Refuse an array of the wrong rank or number of channels."""
        if x.ndim != len(self.shape.split()):
            raise ValueError(f"x must be ({self.shape}), got shape {tuple(x.shape)}")


STEMS: Registry[Stem] = Registry("models.stems")
