"""Flattened windows: points sorted window by window in a serpentine, attention inside equal groups."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.layout import Coords, Layout, Mask, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend

TEMPERATURE = 10000.0


@MIXERS.register
class FlatWindowAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e)) v in groups of `group` tokens; q, k of x + p, v of x; p: sines of cells.

    Tokens are sorted by windows of `window` x `window` cells of the plane, whatever their height, and by
    their cell within; `axis` says along which axis windows and cells are walked, `shifted` moves windows by
    half. The last group takes the last `group` tokens, so all are full; a cloud of fewer repeats them.
    Shape: (b, n, d) -> (b, n, d), any order of tokens; layout.coords in [-1, 1] cut into `cells` x `cells`.
    Cost:  O(n group d + n log n) time.
    Paper: Liu et al., 2023, arXiv:2301.08739, sec. 3. Departs from it: cells share out each cloud's box
        instead of metres; tokens of one cell follow by height.
    """

    traits = Traits(coords=True, permutation_equivariant=True, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        group: int = 69,
        window: int = 9,
        cells: int = 468,
        axis: str = "x",
        shifted: bool = False,
        head_dim: int = 16,
    ) -> None:
        super().__init__()
        if axis not in ("x", "y"):
            raise ValueError(f"axis must be 'x' or 'y', got {axis!r}")
        if min(group, window, cells) < 1:
            raise ValueError(f"group, window and cells must be positive, got {group}, {window}, {cells}")
        self.group, self.window, self.cells = group, window, cells
        self.axis, self.shifted = axis, shifted
        self.heads = count_heads(dim, head_dim)
        self.qk, self.v, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.coords is None:
            raise ValueError("flat_window needs coords in the layout, got none")
        cells = ((layout.coords[..., :2] + 1) / 2 * self.cells).long().clamp(0, self.cells - 1)
        order = self.order(cells, layout.coords, layout.mask)
        members, home = self.groups(order, layout.mask)
        qk = self.qk(x + self.places(cells, like=x))
        every = torch.cat([qk, self.v(x)], -1)  # one gather for all three
        every = _take(every, members.flatten(1)).unflatten(1, members.shape[1:]).flatten(0, 1)
        q, k, v = (split_heads(t, self.heads) for t in every.chunk(3, dim=-1))
        y = merge_heads(attend(q, k, v)).unflatten(0, members.shape[:2]).flatten(1, 2)
        return self.out(_take(y, home))

    def order(self, cells: Int[Tensor, "b n 2"], coords: Coords, mask: Mask | None) -> Int[Tensor, "b n"]:
        """Indices that sort each cloud; points hidden by the mask come last."""
        along, across = cells.unbind(-1) if self.axis == "x" else cells.flip(-1).unbind(-1)
        size, shift = self.window, self.window // 2 if self.shifted else 0
        count = -(-self.cells // size) + 1
        row, column = (across + shift) // size, (along + shift) // size
        i, j = (along + shift) % size, (across + shift) % size
        # rows of windows are walked there and back; so are, in a window, its lines across
        back = row % 2 == 1
        column, i, j = (torch.where(back, n - 1 - t, t) for t, n in ((column, count), (i, size), (j, size)))
        j = torch.where((along + shift) % size % 2 == 1, size - 1 - j, j)
        key = ((row * count + column) * size + i) * size + j
        if mask is not None:
            key = key.masked_fill(~mask, torch.iinfo(torch.int64).max)
        by_height = coords[..., -1].argsort(dim=1, stable=True)
        return by_height.gather(1, key.gather(1, by_height).argsort(dim=1, stable=True))

    def groups(
        self, order: Int[Tensor, "b n"], mask: Mask | None
    ) -> tuple[Int[Tensor, "b g s"], Int[Tensor, "b n"]]:
        """The tokens of each group, and for each token the slot of all groups that answers for it."""
        n, size = order.shape[1], self.group
        real = torch.full_like(order[:, :1], n) if mask is None else mask.sum(1, keepdim=True).clamp(min=1)
        slots = torch.arange(-(-n // size) * size, device=order.device)[None]
        start = slots // size * size
        last = (real - size).clamp(min=0)  # where the last group begins
        place = (torch.minimum(start, last) + slots % size) % real
        members = order.gather(1, place.clamp(max=n - 1)).unflatten(1, (-1, size))
        rank = order.argsort(dim=1)
        first = rank // size * size
        home = first + rank - torch.minimum(first, last)
        return members, home.clamp(0, slots.shape[1] - 1)

    def places(self, cells: Int[Tensor, "b n 2"], *, like: Tensor) -> Float[Tensor, "b n d"]:
        """Sines and cosines of each cell's column and row, zeros to fill the channels."""
        d = like.shape[-1]
        pairs = d // 4
        step = torch.arange(pairs, device=like.device, dtype=torch.float32) / max(pairs, 1)
        angle = cells[..., None] / TEMPERATURE**step  # (b, n, 2, d/4)
        waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)
        return F.pad(waves, (0, d - waves.shape[-1])).to(like.dtype)


def _take(x: Tokens, index: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
