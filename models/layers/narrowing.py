"""One transformer layer from wide tokens to narrow ones: its values are the way past the attention."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Mask, Tokens
from models.ops.attention import attend, open_empty_rows

EPS = 1e-8


class Narrowing(nn.Module):
    """z = v + W softmax(q k^T / sqrt(dim)) v;  y = z + mlp(norm(z)), with q, k, v of norm(x), one head.

    Shape: (b, n, dim) -> (b, n, width). With `features` > 0 the softmax is a performer's: sums over that many
    positive random features exp(w q - |q|^2 / 2), w orthogonal rows of length sqrt(features), never trained.
    Cost:  O(n^2 width) time, or O(n width features).
    Paper: Yuan et al., 2021, arXiv:2101.11986, sec. 3.1, after the authors' code; features, Choromanski et
        al., 2020, arXiv:2009.14794, lemma 1. Departs from it: the performer has no dropout.
    """

    features: Tensor | None

    def __init__(self, dim: int, width: int, *, features: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(width)
        self.qkv = nn.Linear(dim, 3 * width, bias=features > 0)
        self.out, self.up, self.down = (nn.Linear(width, width) for _ in range(3))
        self.stretch = math.sqrt(width / dim)  # scores are divided by the root of the wide width
        drawn = torch.empty(features, width) if features else None
        if drawn is not None:
            nn.init.orthogonal_(drawn, gain=math.sqrt(features))
        self.register_buffer("features", drawn)

    def forward(self, x: Tokens, mask: Mask | None) -> Float[Tensor, "b n o"]:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        z = v + self.out(self._mix(q, k, v, mask))
        return z + self.down(F.gelu(self.up(self.norm2(z))))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None) -> Tensor:
        if self.features is None:
            allowed = None if mask is None else open_empty_rows(mask[:, None, None])
            return attend((q * self.stretch)[:, None], k[:, None], v[:, None], allowed)[:, 0]
        q, k = self._positive(q), self._positive(k)
        if mask is not None:
            k = k * mask[..., None]
        total = q @ k.sum(1)[..., None]  # (b, n, 1)
        return (q @ (k.mT @ v)) / (total + EPS)

    def _positive(self, x: Tensor) -> Tensor:
        """exp(w x - |x|^2 / 2) / sqrt(m) for m features w: their products are exp(q k) on average."""
        assert self.features is not None
        square = x.square().sum(-1, keepdim=True) / 2
        return torch.exp(x @ self.features.mT - square) / math.sqrt(self.features.shape[0])
