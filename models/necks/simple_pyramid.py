"""Simple feature pyramid: maps of four strides from the last map alone."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.convolution import Convolution, coarser
from models.layout import Layout, Stage, Tokens
from models.necks.base import NECKS, Neck
from models.norms.base import NORMS
from models.registry import Part


@NECKS.register
class SimplePyramid(Neck):
    """y_s = norm(conv3x3(norm(conv1x1(scale_s(x))))), s = 4, 2, 1, 1/2: strides 4 to 32 after patches of 16.

    scale_4 is two transposed convolutions of 2 x 2 with a norm and GELU between, scale_2 one, scale_1
    nothing, scale_1/2 the largest of 2 x 2; earlier axes of the grid stay as they are.
    Shape: (b, n, d) on (..., h, w) -> four times (b, n', width) on (..., s h, s w), the last rounded up.
    Paper: Li et al., 2022, arXiv:2203.16527, sec. 3 and its appendix. Departs from it: nothing.
    """

    finer = 4

    def __init__(self, dims: Sequence[int], *, width: int = 256, norm: Part | None = "layer") -> None:
        super().__init__()
        if len(dims) != 1:
            raise ValueError(f"a simple pyramid is for backbones of one stage, got {len(dims)} stages")
        (dim,) = dims
        if dim % 4:
            raise ValueError(f"a simple pyramid divides channels by 4, got dim={dim}")
        self.dims = (width,) * 4
        between = None if norm is None else NORMS.build(norm, dim // 2)
        self.scales = nn.ModuleList(
            [
                nn.ModuleList(
                    [Doubling(dim, dim // 2, norm=between, act=F.gelu), Doubling(dim // 2, dim // 4)]
                ),
                nn.ModuleList([Doubling(dim, dim // 2)]),
                nn.ModuleList(),
                nn.ModuleList([Halving()]),
            ]
        )

        def conv(a: int, kernel: int) -> Convolution:
            return Convolution(a, width, kernel=kernel, bias=norm is None, norm=norm)

        self.narrow = nn.ModuleList(conv(a, 1) for a in (dim // 4, dim // 2, dim, dim))
        self.smooth = nn.ModuleList(conv(width, 3) for _ in self.narrow)

    def forward(self, stages: list[Stage]) -> list[Stage]:
        whole = stages[-1].layout
        if whole.grid is None or len(whole.grid) < 2:
            raise ValueError(f"a simple pyramid needs a grid of 2 or 3 axes in the layout, got {whole.grid}")
        *lead, h, w = whole.grid

        def apart(x: Tensor) -> Tensor:  # frames as samples
            return x.unflatten(1, (-1, h * w)).flatten(0, 1)

        def together(x: Tensor) -> Tensor:
            return x.unflatten(0, (len(stages[-1].tokens), -1)).flatten(1, 2)

        flat = Layout(grid=(h, w), mask=None if whole.mask is None else apart(whole.mask))
        found = []
        for scale, narrow, smooth in zip(self.scales, self.narrow, self.smooth, strict=True):
            x, layout = apart(stages[-1].tokens), flat
            for step in scale.children():
                x, layout = step(x, layout)
            y = together(smooth(narrow(x, layout), layout))
            assert layout.grid is not None
            mask = None if layout.mask is None else together(layout.mask)
            found.append(Stage(y, whole.with_(grid=(*lead, *layout.grid), mask=mask)))
        return found


class Doubling(nn.Module):
    """act(norm(transposed convolution of 2 x 2 at stride 2)): each token becomes four."""

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        norm: nn.Module | None = None,
        act: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.ConvTranspose2d(dim, out, 2, stride=2), norm, act

    def forward(self, x: Tokens, layout: Layout) -> tuple[Tokens, Layout]:
        h, w = layout.need_grid(2, "doubling")
        mask = layout.mask
        if mask is not None:
            mask = mask.unflatten(1, (h, w)).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)
        layout = layout.with_(grid=(2 * h, 2 * w), mask=mask)
        y = self.conv(x.mT.unflatten(-1, (h, w))).flatten(2).mT
        y = y if self.norm is None else self.norm(y, layout)
        return y if self.act is None else self.act(y), layout


class Halving(nn.Module):
    """The largest of 2 x 2 tokens, of those that are real."""

    def forward(self, x: Tokens, layout: Layout) -> tuple[Tokens, Layout]:
        h, w = layout.need_grid(2, "halving")
        if layout.mask is not None:
            x = x.masked_fill(~layout.mask[..., None], -torch.inf)
        y = F.max_pool2d(x.mT.unflatten(-1, (h, w)), 2, ceil_mode=True).flatten(2).mT
        layout = coarser(layout, (2, 2))
        return y if layout.mask is None else y.masked_fill(~layout.mask[..., None], 0), layout
