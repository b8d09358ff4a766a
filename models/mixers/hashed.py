"""Hashed attention: queries and keys are binary codes, so that linear attention needs additions only."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.hashing import kernel_values, learn_bits, pairs


@MIXERS.register
class HashedAttention(TokenMixer):
    """y_i = sum_j w_ij v_j / sum_j w_ij, w_ij = c_i c_j + r + 1 >= 1, c = sign(A (k(x) - mean)) in {-1, 1}^r.

    x is the query and the key at once, of unit length; k(x) are Gaussian kernels of x and m supports. c_i c_j
    is r - 2 Hamming(i, j); sums over j come first, so nothing has n^2 entries. Gradients pass the sign where
    its argument lies in (-1, 1). The first batch in training, and the one after `relearn()`, sets supports,
    mean and A: bits that most similar tokens share and least similar ones do not.
    Shape: (b, n, d) -> (b, n, d).
    Cost:  O(n (m + r) d) time, O(n d + r d) state.
    Paper: Liu et al., 2022, arXiv:2209.09004, sec. 4. Departs from it: bits are learned on `sample` tokens
        and start at the relaxed solution, which the code of the paper leaves out; that code adds r + 1 to
        the weight of the token itself alone, n times, in place of all weights.
    """

    traits = Traits(permutation_equivariant=True, linear_time=True, prefix=True)
    supports: Tensor
    mean: Tensor
    weights: Tensor

    def __init__(
        self,
        dim: int,
        *,
        bits: int = 16,
        supports: int = 25,
        similar: int = 10,
        sample: int = 128,
        steps: int = 20,
        head_dim: int = 32,
    ) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        self.bits, self.similar, self.sample, self.steps = bits, similar, sample, steps
        self.qk, self.v, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        start = F.normalize(torch.randn(self.heads, supports, head_dim), dim=-1)
        self.register_buffer("supports", start)
        self.register_buffer("mean", torch.full((self.heads, supports), math.exp(-0.5)))
        self.register_buffer("weights", torch.randn(self.heads, bits, supports))
        self.learned = False

    def relearn(self) -> None:
        """Learn the codes anew from the next batch in training; the paper does so every 30 epochs."""
        self.learned = False

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        qk = F.normalize(split_heads(self.qk(x), self.heads), dim=-1)
        if self.training and not self.learned:
            self.learn(qk.detach(), layout.mask)
        codes = self.codes(qk, layout.mask)
        shifted = torch.cat([codes, codes.new_full((*codes.shape[:-1], 1), math.sqrt(self.bits + 1))], -1)
        keys = shifted if layout.mask is None else shifted * layout.mask[:, None, :, None]
        v = split_heads(self.v(x), self.heads)
        sums = keys.mT @ torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the last is the sum of weights
        y = shifted @ sums
        return self.out(merge_heads(y[..., :-1] / y[..., -1:].clamp(min=1)))

    def codes(
        self, qk: Float[Tensor, "b h n e"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b h n r"]:
        """-1 or 1, with the slope of the argument where that is small."""
        values = kernel_values(qk, self.supports, mask) - self.mean[:, None]
        y = torch.einsum("bhnm,hrm->bhnr", values, self.weights)
        slope = y.clamp(-1, 1)
        return torch.where(y > 0, 1.0, -1.0).to(y.dtype) + (slope - slope.detach())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def learn(self, qk: Float[Tensor, "b h n e"], mask: Bool[Tensor, "b n"] | None) -> None:
        """Set supports, mean and A from unit vectors of a batch."""
        chosen = torch.randperm(qk.shape[2], device=qk.device)[: self.sample]
        x = qk[:, :, chosen].float()
        real = torch.ones_like(x[:, 0, :, 0], dtype=torch.bool) if mask is None else mask[:, chosen]
        order = real[0].float().argsort(descending=True, stable=True)  # real tokens of the first sample first
        first = x[0][:, order[torch.arange(self.supports.shape[1], device=x.device) % len(chosen)]]
        self.supports.copy_(first)
        values = kernel_values(x, self.supports.float(), real)
        weight = real[:, None, :, None].float()
        self.mean.copy_((values * weight).sum((0, 2)) / weight.sum().clamp(min=1))
        values = (values - self.mean.float()[:, None]) * weight
        target = pairs(x, min(self.similar, len(chosen)), real)
        self.weights.copy_(learn_bits(values, target, self.bits, self.steps))
        self.learned = True
