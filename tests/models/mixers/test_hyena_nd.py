import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.hyena_nd import HyenaND

SMALL = [{}, {"causal": True}]


def direct(mixer: HyenaND, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """The four answers of the formula one after the other, each a sum over offsets of a flipped raster."""
    raster = mixer.inputs(x).mT.unflatten(-1, grid)
    pads = (2, 0, 2, 0) if mixer.causal else (1, 1, 1, 1)
    short = F.conv2d(F.pad(raster, pads), mixer.short, mixer.short_bias, groups=len(mixer.short))
    x2, x1, v = short.movedim(1, -1).chunk(3, -1)
    h = mixer._corner(grid)
    answers = []
    for flips in [()] if mixer.causal else [(), (1,), (2,), (1, 2)]:
        u = (x1 * v).flip(flips)
        z = torch.zeros_like(u)
        for i, j in itertools.product(*map(range, grid)):
            z[:, i:, j:] += h[i, j] * u[:, : grid[0] - i, : grid[1] - j]
        answers.append((x2.flip(flips) * (z + mixer.skip * u)).flip(flips))
    weights = [1.0] if mixer.mix is None else mixer.mix
    return mixer.out(sum(w * a for w, a in zip(weights, answers, strict=True)).flatten(1, 2))


@pytest.mark.parametrize("causal", [False, True])
def test_equals_sums_over_offsets_from_every_corner(causal: bool) -> None:
    torch.manual_seed(0)
    mixer = HyenaND(6, causal=causal, extent=5).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    x = torch.randn(2, 20, 6, dtype=torch.float64)
    assert_close(mixer(x, Layout(grid=(4, 5))), direct(mixer, x, (4, 5)), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("grid", [(9,), (2, 3, 4)])
def test_takes_rasters_of_one_and_three_axes(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mixer = HyenaND(4, axes=len(grid)).double()
    x = torch.randn(1, torch.Size(grid).numel(), 4, dtype=torch.float64)
    assert mixer(x, Layout(grid=grid)).isfinite().all()


def test_rejects_four_axes() -> None:
    with pytest.raises(ValueError, match="axes must be 1, 2 or 3, got 4"):
        HyenaND(4, axes=4)
