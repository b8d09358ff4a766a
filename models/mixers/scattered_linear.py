"""Scattered linear attention: windows of voxels of any number, in one flat list without padding."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.scattered import scattered_linear
from models.ops.voxels import cells_of


@MIXERS.register
class ScatteredLinearAttention(TokenMixer):
    """y_i = W relu(q_i) S / (relu(q_i) z), S = sum relu(k)^T v and z = sum relu(k) over the window of i.

    Windows are columns of `window` x `window` cells; layout.coords in [-1, 1] is cut into `cells` x `cells`.
    Shape: (b, n, d) -> (b, n, d), any order of tokens.
    Cost:  O(n d e) time, O(n d + w d e) state for w windows.
    Paper: He et al., 2024, arXiv:2401.00912, sec. 3.2. Departs from it: cells share out each cloud's box
        instead of metres.
    """

    traits = Traits(coords=True, permutation_equivariant=True)

    def __init__(self, dim: int, *, window: int = 12, cells: int = 480, head_dim: int = 32) -> None:
        super().__init__()
        if min(window, cells) < 1:
            raise ValueError(f"window and cells must be positive, got {window}, {cells}")
        self.window, self.cells = window, cells
        self.heads = count_heads(dim, head_dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.coords is None:
            raise ValueError("scattered_linear needs coords in the layout, got none")
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (b, n, h, e)
        q, k = F.relu(q), F.relu(k)
        if layout.mask is not None:
            k = k * layout.mask[..., None, None]
        side = -(-self.cells // self.window)
        row, column = (cells_of(layout.coords[..., :2], (self.cells,) * 2) // self.window).unbind(-1)
        sample = torch.arange(x.shape[0], device=x.device)[:, None]
        window = (sample * side + row) * side + column
        q, k, v = (t.flatten(0, 1) for t in (q, k, v))
        y = scattered_linear(q, k, v, window.flatten(), x.shape[0] * side**2)
        return self.out(y.flatten(1).unflatten(0, x.shape[:2]))
