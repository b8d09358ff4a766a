import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.gnconv import LocalGlobalFilter, RecursiveGatedConv

SMALL = [{"order": 3, "kernel": 3}, {"order": 2, "spectrum": (4, 3)}]


def test_spectrum_of_ones_passes_half_of_the_channels_unchanged() -> None:
    torch.manual_seed(0)
    filters = LocalGlobalFilter(8, (5, 4)).double()
    with torch.no_grad():
        filters.spectrum[0], filters.spectrum[1] = 1, 0
    x = torch.randn(1, 30, 8, dtype=torch.float64)
    layout, y = Layout(grid=(5, 6)), filters.before(x)
    want = torch.stack([filters.local(y[..., :4], layout), y[..., 4:]], -1).flatten(-2)
    assert_close(filters(x, layout), filters.after(want))


def test_spectrum_is_a_circular_convolution() -> None:
    torch.manual_seed(0)
    filters = LocalGlobalFilter(4, (4, 3)).double()
    kernel = torch.randn(2, 4, 5, dtype=torch.float64)
    waves = torch.fft.rfft2(kernel)  # (2, 4, 3)
    with torch.no_grad():
        filters.spectrum.copy_(torch.stack([waves.real, waves.imag]))
    maps = filters.before(torch.randn(1, 20, 4, dtype=torch.float64))
    got = []
    filters.before, filters.after = torch.nn.Identity(), torch.nn.Identity()
    y = filters(maps, Layout(grid=(4, 5)))[0, :, 1::2].view(4, 5, 2)
    b = maps[0, :, 2:].view(4, 5, 2)
    for c in range(2):
        total = torch.zeros(4, 5, dtype=torch.float64)
        for i in range(4):
            for j in range(5):
                total += kernel[c, i, j] * b[..., c].roll((i, j), (0, 1))
        got.append(total)
    assert_close(y, torch.stack(got, -1))


def test_rejects_an_order_that_halves_too_often() -> None:
    with pytest.raises(ValueError, match=r"2\^\(order - 1\) must divide dim, got dim=12, order=4"):
        RecursiveGatedConv(12, order=4)
