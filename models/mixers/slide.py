"""Slide attention: local attention whose shifted keys and values come from one depthwise convolution."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class SlideAttention(TokenMixer):
    """y_p = sum_i softmax_i(q_p . (k^i_p + B_i) / sqrt(e)) v^i_p,  x^i = (shift_i + deform_i) * x.

    Shift i of the kernel^2 ones is a fixed one-hot kernel, deform_i a learned one, the same for all heads;
    being linear, the two are added before they are applied. Keys beyond the raster are zeros and count.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n k^4 d) time for kernels of k, O(n k^2 d) state; convolutions and sums only.
    Paper: Pan et al., 2023, arXiv:2304.04237, eq. 5-8. Departs from it: nothing; that the bias of a shift is
        added to every channel of its keys, not to the score, is the paper's code.
    """

    traits = Traits(grid_axes=2, linear_time=True)
    shifts: Tensor

    def __init__(self, dim: int, *, kernel: int = 3, head_dim: int = 32) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel of slide attention must be odd, got {kernel}")
        self.heads, self.kernel = count_heads(dim, head_dim), kernel
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.deform = nn.Conv2d(head_dim, head_dim * kernel**2, kernel, groups=head_dim)
        shifts = torch.eye(kernel**2).view(-1, 1, kernel, kernel).repeat(head_dim, 1, 1, 1)
        self.register_buffer("shifts", shifts, persistent=False)
        self.bias = nn.Parameter(torch.empty(self.heads, kernel**2))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "slide")
        check_grid(grid, x, "slide")
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 4, 1)  # (b, h, e, n)
        if layout.mask is not None:
            real = layout.mask[:, None, None]
            k, v = k * real, v * real
        # q . (k + B) = q . k + B sum(q)
        scores = torch.einsum("bhen,bheon->bhon", q, self.slide(k, grid))
        scores = scores + self.bias[:, :, None] * q.sum(2, keepdim=True)
        weights = (scores * q.shape[2] ** -0.5).softmax(2)
        y = torch.einsum("bhon,bheon->bnhe", weights, self.slide(v, grid))
        return self.out(y.flatten(2))

    def slide(self, x: Float[Tensor, "b h e n"], grid: tuple[int, ...]) -> Float[Tensor, "b h e o n"]:
        """The map as seen from every place of the kernel, in one convolution."""
        kernels = self.shifts + self.deform.weight
        maps = x.flatten(0, 1).unflatten(-1, grid)
        y = F.conv2d(maps, kernels, self.deform.bias, padding=self.kernel // 2, groups=x.shape[2])
        return y.unflatten(0, x.shape[:2]).unflatten(2, (x.shape[2], -1)).flatten(4)
