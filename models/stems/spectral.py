"""Cubes to tokens: one linear map of each patch of a few neighbouring bands, the same map for all bands."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.ops.windows import merge, pad_to_multiple, partition
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class SpectralStem(Stem):
    """(b, c, h, w) with wavelengths (b, c) nm -> (b, n, d) on a grid (ceil(c / bands), h', w'), any c.

    The last band is repeated to fill the last group; a group's wavelength is the mean of its bands. `hidden`
    puts a layer of that width and a ReLU into the map. With `sample`, a batch in training keeps only m bands,
    m uniform from 1 to all of them: for heads that answer for a sample, since others need every token.
    Paper: Bao et al., 2023, arXiv:2309.16108 (one map for all channels), with groups of bands as in Hong et
    al., 2021, arXiv:2107.02988, sec. III-B.
    """

    axes, shape = 3, "b c h w"

    def __init__(
        self,
        in_chans: int,
        dim: int,
        *,
        bands: int = 4,
        patch: int = 4,
        hidden: int | None = None,
        sample: bool = False,
    ) -> None:
        super().__init__()
        if in_chans != 1:
            raise ValueError(
                f"a spectral stem takes any number of bands, so in_chans must be 1, got {in_chans}"
            )
        self.bands, self.patch, self.sample = bands, patch, sample
        self.cells, self.values = patch**2, bands * patch**2
        self.project: nn.Module = nn.Linear(self.values, dim)
        if hidden is not None:
            self.project = nn.Sequential(nn.Linear(self.values, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("spectral", "wavelengths", "mask")
        if side.wavelengths is None or side.wavelengths.shape != x.shape[:2]:
            got = None if side.wavelengths is None else tuple(side.wavelengths.shape)
            raise ValueError(f"a cube needs wavelengths (b, c) = {tuple(x.shape[:2])} in nm, got {got}")
        wavelengths = side.wavelengths
        if self.sample and self.training:
            kept = draw_bands(x.shape[1])
            x, wavelengths = x[:, kept], wavelengths[:, kept]
        groups = wavelengths[:, self._fill(x.shape[1], x.device)].unflatten(1, (-1, self.bands))
        grid = (groups.shape[1], *(-(-size // self.patch) for size in x.shape[2:]))
        return self.project(self.cut(x)), Layout(grid=grid, mask=side.mask, wavelengths=groups.mean(-1))

    def _fill(self, count: int, device: torch.device) -> Tensor:
        padded = torch.arange(count + -count % self.bands, device=device)
        return padded.clamp(max=count - 1)

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        window = (self.bands, self.patch, self.patch)
        filled = x[:, self._fill(x.shape[1], x.device)].unsqueeze(-1)
        return partition(pad_to_multiple(filled, window), window).squeeze(-1)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        window = (self.bands, self.patch, self.patch)
        padded = [s + -s % step for s, step in zip(size, window, strict=True)]
        raster = merge(values.unsqueeze(-1), window, padded).squeeze(-1)
        c, h, w = size
        return raster[:, :c, :h, :w]

    def answers(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        """One answer a pixel: the mean over the groups of bands."""
        _, h, w = size
        rows, columns = -(-h // self.patch), -(-w // self.patch)
        mean = values.unflatten(1, (-1, rows * columns)).mean(1)  # (b, h' w', k p p)
        pieces = mean.unflatten(2, (-1, self.cells)).mT
        window = (self.patch, self.patch)
        return merge(pieces, window, (rows * self.patch, columns * self.patch))[:, :h, :w].movedim(-1, 1)


def draw_bands(count: int) -> Tensor:
    """Numbers of m bands without repeats, m uniform in 1 .. count, all subsets of m alike; torch's generator.

    Source: Bao et al., 2023, arXiv:2309.16108, algorithm 1 (hierarchical channel sampling).
    """
    return torch.randperm(count)[: int(torch.randint(1, count + 1, ()))]
