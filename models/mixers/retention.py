"""Retention: causal linear attention whose memory of earlier tokens fades."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.retention import chunkwise, parallel, recurrent

FORMS = ("parallel", "chunkwise", "recurrent")


@MIXERS.register
class Retention(TokenMixer):
    """y = W [silu(W_g x) * norm((q k^T / sqrt(e) * D) v)],  D_ij = gamma_h^(i - j) for j <= i, else 0.

    Head h of `heads` has gamma_h = 1 - 2^(-5 - h); each is normed by itself; without `gate`, W norm(...).
    `form` chooses among three ways to the same numbers: "parallel", "chunkwise" by `chunk` tokens and
    "recurrent".
    Shape: (b, n, d) -> (b, n, d).
    Cost:  parallel O(n^2 d) time; chunkwise O(n chunk d); recurrent O(n e d) time, O(e d) state.
    Paper: Hatamizadeh et al., 2023, arXiv:2310.19731, sec. 3; gammas, norm and gate, Sun et al., 2023,
        arXiv:2307.08621, eq. 8. Departs from it: positions turn no queries and keys.
    """

    traits = Traits(causal=True)

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 32,
        form: str = "parallel",
        chunk: int = 64,
        gate: bool = True,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form of retention must be one of {FORMS}, got {form!r}")
        self.heads = count_heads(dim, head_dim)
        self.form, self.chunk = form, chunk
        self.qkv = nn.Linear(dim, 3 * dim)
        self.gate = nn.Linear(dim, dim) if gate else None
        self.norm = nn.GroupNorm(self.heads, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(x).chunk(3, -1))
        k = k * k.shape[-1] ** -0.5
        log_decay = self.log_decay(k)
        if layout.mask is not None:
            real = layout.mask[:, None]
            k = k * real[..., None]
            log_decay = log_decay * real  # a hidden step does not count: the memory stays as it is
        if self.form == "parallel":
            y = parallel(q, k, v, log_decay)
        elif self.form == "chunkwise":
            y = chunkwise(q, k, v, log_decay, chunk=self.chunk)
        else:
            y = recurrent(q, k, v, log_decay)
        y = self.norm(merge_heads(y).flatten(0, 1)).view_as(x)
        return self.out(y if self.gate is None else y * F.silu(self.gate(x)))

    def log_decay(self, like: Tensor) -> Tensor:
        """The logarithm of gamma of each head at every step: (h, n)."""
        heads = torch.arange(self.heads, device=like.device, dtype=torch.float64)
        return torch.log1p(-(2.0 ** (-5 - heads))).to(like.dtype)[:, None].expand(-1, like.shape[-2])
