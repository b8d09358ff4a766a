"""What every token mixer promises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from models.layout import Layout, Tokens
from models.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Claims a mixer makes; `tests/models/mixers/test_contract.py` holds it to each one."""

    grid_axes: int | None = None  # needs a raster of so many axes
    coords: bool = False  # needs to know where each token sits
    permutation_equivariant: bool = False
    linear_time: bool = False


class TokenMixer(nn.Module, ABC):
    """Moves information along the token axis and leaves the shape alone.

    Tokens that `layout.mask` hides reach no other token; what comes out in their places is finite and
    otherwise unspecified.
    """

    traits: ClassVar[Traits] = Traits()

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Tokens: ...


MIXERS: Registry[TokenMixer] = Registry("models.mixers")


def list_mixers() -> list[str]:
    """Names that `create_mixer` knows."""
    return MIXERS.names()


def create_mixer(name: str, dim: int, **options: Any) -> TokenMixer:
    """Mixer `name` for tokens of `dim` channels; an unknown name or option is a LookupError."""
    return MIXERS.create(name, dim, **options)
