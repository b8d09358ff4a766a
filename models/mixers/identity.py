"""No mixing: what a block does without a token mixer, to compare the others with."""

from models.layout import Layout, Tokens
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class IdentityMixer(TokenMixer):
    """y = x.

    Shape: (b, n, d) -> (b, n, d).
    Cost:  nothing.
    Paper: Yu et al., 2021, arXiv:2111.11418, table 5. Departs from it: nothing.
    """

    traits = Traits(permutation_equivariant=True, packed=True, causal=True, linear_time=True)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return x
