import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.spectral_gating import SpectralGating

SMALL = [{"grid": (6, 4)}]


@pytest.mark.parametrize("grid", [(6, 8), (3, 5), (9, 11)])
def test_equals_a_sum_over_the_taps_of_its_kernel(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mixer = SpectralGating(4, grid=(6, 8)).double()
    kernel = torch.fft.irfft2(torch.view_as_complex(mixer.weight), s=(6, 8), dim=(0, 1))
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    want = torch.zeros_like(x)
    for i in range(-(min(6, grid[0]) // 2), (min(6, grid[0]) + 1) // 2):
        for j in range(-(min(8, grid[1]) // 2), (min(8, grid[1]) + 1) // 2):
            want += kernel[i, j] * x.roll((i, j), (1, 2))
    assert_close(mixer(x.flatten(1, 2), Layout(grid=grid)), want.flatten(1, 2), atol=1e-12, rtol=0)
