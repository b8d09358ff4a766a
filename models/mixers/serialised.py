"""Serialised groups: points sorted along a space-filling curve, attention inside equal runs of them."""

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from models.layout import Layout, Tokens
from models.mixers._heads import HeadAttention
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.curves import CURVES, curve_order


@MIXERS.register
class SerialisedAttention(TokenMixer):
    """Sort tokens along a curve, cut into runs of `group`, y = softmax(q k^T / sqrt(e)) v inside each run.

    Shape: (b, n, d) -> (b, n, d), any order of tokens; reads layout.coords.
    Cost:  O(n group d + n log n) time.
    Paper: Wu et al., 2023, arXiv:2312.10035, sec. 4.2; `shifted` moves the cuts by half a group, as in
        Liu et al., 2023, arXiv:2301.08739. Departs from them: the last run is shorter instead of borrowing
        points of the run before it.
    """

    traits = Traits(coords=True, permutation_equivariant=True, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        group: int = 64,
        curve: str = "morton",
        shifted: bool = False,
        reverse_axes: bool = False,
        head_dim: int = 16,
    ) -> None:
        super().__init__()
        if curve not in CURVES:
            raise LookupError(f"no curve {curve!r}; there are {sorted(CURVES)}")
        self.group, self.curve, self.shifted, self.reverse_axes = group, curve, shifted, reverse_axes
        self.attention = HeadAttention(dim, head_dim=head_dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.coords is None:
            raise ValueError("serialised needs coords in the layout, got none")
        order = curve_order(
            layout.coords, layout.mask, curve=self.curve, reverse_axes=self.reverse_axes
        )  # (b, n)
        before = self.group // 2 if self.shifted else 0
        after = -(before + x.shape[1]) % self.group
        pads = (before, after)
        real = (
            torch.ones_like(order, dtype=torch.bool) if layout.mask is None else layout.mask.gather(1, order)
        )
        runs = F.pad(self._take(x, order), (0, 0, *pads)).unflatten(1, (-1, self.group)).flatten(0, 1)
        keys = None
        if any(pads) or layout.mask is not None:
            keys = F.pad(real, pads).unflatten(1, (-1, self.group)).flatten(0, 1)[:, None]
        y = self.attention(runs, keys).unflatten(0, (x.shape[0], -1)).flatten(1, 2)
        return self._take(y[:, before : before + x.shape[1]], order.argsort(dim=1))

    @staticmethod
    def _take(x: Tokens, index: Int[Tensor, "b n"]) -> Tokens:
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
