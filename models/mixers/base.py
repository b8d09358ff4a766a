"""What every token mixer promises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from models.layout import Layout, Tokens
from models.registry import Registry, suggest


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Claims a mixer makes; `tests/models/mixers/test_contract.py` holds it to each one.

    `masks` says what hiding tokens means: "removes", the rest answers as if they were not there; "hides",
    they reach no other, but the raster keeps its extent; "none", a mask is a ValueError.
    """

    grid_axes: int | None = None  # needs a raster of so many axes
    coords: bool = False  # needs to know where each token sits
    wavelengths: bool = False  # needs the wavelength of each band, the first axis of its raster
    masks: Literal["removes", "hides", "none"] = "removes"
    prefix: bool = False  # takes tokens before the raster that lie nowhere, `layout.prefix` of them
    packed: bool = False  # keeps the sequences of `layout.cu_seqlens` apart
    causal: bool = False  # no token sees a later one
    permutation_equivariant: bool = False
    linear_time: bool = False


class TokenMixer(nn.Module, ABC):
    """Moves information along the token axis and leaves the shape alone.

    Tokens that `layout.mask` hides reach no other token; what comes out in their places is finite and
    otherwise unspecified. Built as (dim, *, options).
    """

    traits: ClassVar[Traits] = Traits()

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Tokens: ...


MIXERS: Registry[TokenMixer] = Registry("models.mixers")


def list_mixers() -> list[str]:
    """Names that `create_mixer` knows: those of mixers, and of published systems that have one."""
    from models.presets.base import mixer_of, systems

    return sorted({*MIXERS.names(), *(system for system in systems() if mixer_of(system))})


def create_mixer(name: str, dim: int, **options: Any) -> TokenMixer:
    """Mixer `name` for tokens of `dim` channels, or that of a published system, with its own defaults.

    An unknown name or option is a LookupError.
    """
    from models.presets.base import mixer_of, systems

    if name not in MIXERS.names() and name in systems() and (own := mixer_of(name)):
        name = own
    elif name not in MIXERS.names():
        raise LookupError(f"no mixer {name!r}; did you mean one of {suggest(name, list_mixers())}?")
    return MIXERS.create(name, dim, **options)
