"""Cross-window interaction: sparse convolutions along the axes carry features from window to window."""

import torch
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.norms.batch import BatchNorm
from models.ops.voxels import cells_of, convolve_cells, mean_of_cells, neighbours
from models.positions.base import POSITIONS, Position


@POSITIONS.register
class CrossWindow(Position):
    """y + [cube 3x3x3, line along y, line along x, identity](y), y = norm(x); channels in quarters.

    Depthwise, on occupied cells only; layout.coords in [-1, 1] is cut into `cells` x `cells` x `height`, and
    points of one cell share its mean.
    Shape: (b, n, d) -> (b, n, d), any order of tokens.
    Paper: He et al., 2024, arXiv:2401.00912, sec. 3.3. Departs from it: cells share out each cloud's box;
        the last quarter is added to itself in the paper's code, as here.
    """

    def __init__(
        self, dim: int, axes: int, *, reach: int = 13, cells: int = 480, height: int = 32, eps: float = 1e-3
    ) -> None:
        super().__init__()
        if axes != 3:
            raise ValueError(f"cross_window needs points in three axes, got a stem of {axes}")
        if dim % 4:
            raise ValueError(f"cross_window splits channels in quarters, got dim={dim}")
        if reach % 2 == 0:
            raise ValueError(f"reach must be odd, got {reach}")
        self.reach, self.count = reach, (cells, cells, height)
        self.norm = BatchNorm(dim, eps=eps, momentum=0.01)
        self.cube = nn.Parameter(torch.randn(27, dim // 4))
        self.across = nn.Parameter(torch.randn(reach, dim // 4))
        self.along = nn.Parameter(torch.randn(reach, dim // 4))

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.coords is None:
            raise ValueError("cross_window needs coords in the layout, got none")
        y = self.norm(x, layout)
        found = neighbours(cells_of(layout.coords, self.count), layout.mask, self.offsets(x.device))
        means = mean_of_cells(y, found.cell, layout.mask)
        parts = means.chunk(4, dim=-1)
        index = found.near.split((27, self.reach, self.reach), dim=-1)
        weights = (self.cube, self.across, self.along)
        mixed = [convolve_cells(p, i, w) for p, i, w in zip(parts, index, weights, strict=False)]
        moved = torch.cat(mixed, -1).gather(1, found.cell[..., None].expand(-1, -1, 3 * parts[0].shape[-1]))
        return y + torch.cat([moved, y[..., moved.shape[-1] :]], -1)

    def offsets(self, device: torch.device) -> Tensor:
        """Cells of the three kernels: (27 + 2 reach, 3)."""
        three = torch.arange(-1, 2, device=device)
        line = torch.arange(self.reach, device=device) - self.reach // 2
        none = torch.zeros_like(line)
        lines = [torch.stack([none, line, none], -1), torch.stack([line, none, none], -1)]
        return torch.cat([torch.cartesian_prod(three, three, three), *lines])
