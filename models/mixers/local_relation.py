"""Local relation: what a token takes from a neighbour depends on where it is, not on what it holds."""

from torch import nn

from models.layers.convolution import Convolution, Size
from models.layout import Layout, Tokens
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class LocalRelation(TokenMixer):
    """y = U [sum_j a_(i-j) (V x)_j] over the `kernel` places around i; a holds a number a channel and offset.

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid) of `axes` axes.
    Cost:  O(n (d + k) d) time for k places.
    Paper: Li et al., 2022, arXiv:2201.09450, eq. 3 and 5. Departs from it: nothing; each channel is a head.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(self, dim: int, *, kernel: Size = 5, axes: int = 2) -> None:
        super().__init__()
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.affinity = Convolution(dim, dim, axes=axes, kernel=kernel, groups=dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return self.out(self.affinity(self.value(x), layout))
