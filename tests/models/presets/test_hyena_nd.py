"""hyena_nd: a global convolution with an implicit kernel, on rasters."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.layout import Layout
from models.mixers import create_mixer
from models.ops.fourier import convolve


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_hyena_nd_convolution_equals_the_direct_zero_padded_one() -> None:
    from scipy.signal import convolve2d

    torch.manual_seed(0)
    grid = (7, 5)
    kernel = create_mixer("hyena_nd", 3, extent=7).double().kernel(grid).detach()
    assert kernel.abs().amax() > 1e-2, "a kernel of zeros proves nothing"
    x = drawn(2, *grid, 3)
    got = convolve(x, kernel, axes=2)
    for b in range(2):
        for d in range(3):
            whole = convolve2d(x[b, ..., d].numpy(), kernel[..., d].numpy())
            want = whole[grid[0] - 1 : 2 * grid[0] - 1, grid[1] - 1 : 2 * grid[1] - 1]
            np.testing.assert_allclose(got[b, ..., d].numpy(), want, atol=1e-12)


def test_hyena_nd_has_no_parameter_that_knows_the_raster() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("hyena_nd", 8).eval()
    for grid in ((8, 8), (64, 64), (3, 50)):
        with torch.no_grad():
            assert mixer(torch.randn(1, math.prod(grid), 8), Layout(grid=grid)).isfinite().all()
    near, far = mixer.kernel((4, 4)), mixer.kernel((9, 9))
    assert_close(near, far[5:-5, 5:-5], msg="the kernel is a function of the offset alone")


def fft_flops(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """5 n log2 n for each transform, the count that FFTW's authors use."""
    size = math.prod(max(shape[d], out_shape[d]) for d in dims)
    others = math.prod(shape) // math.prod(shape[d] for d in dims)
    return int(5 * size * math.log2(max(size, 2)) * others)


def test_hyena_nd_of_four_times_the_tokens_costs_less_than_five_times() -> None:
    mixer = create_mixer("hyena_nd", 8).eval()
    aten = torch.ops.aten

    def flops(side: int) -> int:
        counted = {op: fft_flops for op in (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)}
        with FlopCounterMode(display=False, custom_mapping=counted) as counter, torch.no_grad():
            mixer(torch.randn(1, side**2, 8), Layout(grid=(side, side)))
        assert counter.get_flop_counts()["Global"].keys() & counted.keys(), "transforms must be counted"
        return counter.get_total_flops()

    assert 4 <= flops(64) / flops(32) < 5


def test_hyena_nd_causal_sees_no_later_row_or_column() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("hyena_nd", 4, causal=True).double()
    x = drawn(1, 6, 5, 4).requires_grad_()
    y = mixer(x.flatten(1, 2), Layout(grid=(6, 5))).unflatten(1, (6, 5))
    (grad,) = torch.autograd.grad(y[:, 3, 2].sum(), x)
    seen = grad[0].abs().amax(-1)
    assert seen[4:].amax() < 1e-12 * seen.amax()
    assert seen[:, 3:].amax() < 1e-12 * seen.amax()
    assert seen[:4, :3].amin() > 0


def test_hyena_nd_looks_into_all_four_directions() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("hyena_nd", 4).double()
    x = drawn(1, 6, 5, 4).requires_grad_()
    y = mixer(x.flatten(1, 2), Layout(grid=(6, 5))).unflatten(1, (6, 5))
    (grad,) = torch.autograd.grad(y[:, 3, 2].sum(), x)
    assert grad.abs().amin(-1).amin() > 1e-9
