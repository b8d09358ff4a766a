import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.ops.fourier import convolve, fast_length, filter_circular, resize_kernel


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("grid", [(1,), (7,), (4, 5), (6, 3), (3, 2, 4)])
def test_convolve_equals_sums_over_offsets(grid: tuple[int, ...]) -> None:
    x, kernel = drawn(2, *grid, 3), drawn(*(2 * n - 1 for n in grid), 3)
    want = torch.zeros_like(x)
    for i in itertools.product(*map(range, grid)):
        for j in itertools.product(*map(range, grid)):
            offset = tuple(a - b + n - 1 for a, b, n in zip(i, j, grid, strict=True))
            want[:, *i] += kernel[offset] * x[:, *j]
    assert_close(convolve(x, kernel, axes=len(grid)), want, atol=1e-12, rtol=0)


def test_convolve_lets_channels_share_a_kernel_and_has_the_right_gradient() -> None:
    x, kernel = drawn(2, 4, 3, 2, 5).requires_grad_(), drawn(7, 5, 2, 1).requires_grad_()
    assert_close(
        convolve(x, kernel, axes=2)[..., :1], convolve(x[..., :1], kernel, axes=2), atol=1e-12, rtol=0
    )
    assert torch.autograd.gradcheck(lambda a, b: convolve(a, b, axes=2), (x, kernel))


def test_convolve_rejects_a_kernel_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"a kernel for \(4,\) has 2 n - 1 offsets an axis, got \(8,\)"):
        convolve(drawn(1, 4, 2), drawn(8, 2), axes=1)


@pytest.mark.parametrize(("size", "to"), [((8, 6), (8, 6)), ((4, 5), (9, 8)), ((7, 9), (4, 6))])
def test_a_resized_kernel_keeps_its_taps(size: tuple[int, int], to: tuple[int, int]) -> None:
    kernel = drawn(*size, 2)
    spectrum = torch.fft.rfftn(kernel, dim=(0, 1))
    got = torch.fft.irfftn(resize_kernel(spectrum, size, to), s=to, dim=(0, 1))
    reach = [range(-(min(a, b) // 2), (min(a, b) + 1) // 2) for a, b in zip(size, to, strict=True)]
    for i, j in itertools.product(*reach):
        assert_close(got[i, j], kernel[i, j])
    assert_close(got.abs().sum(), sum(kernel[i, j].abs().sum() for i, j in itertools.product(*reach)))


def test_filter_circular_equals_numpy() -> None:
    x, spectrum = drawn(2, 5, 6, 3), torch.complex(drawn(5, 4, 3), drawn(5, 4, 3) + 1)
    half = np.fft.rfft2(x.numpy(), axes=(1, 2)) * spectrum.numpy()
    want = np.fft.irfft2(half, s=(5, 6), axes=(1, 2))
    assert_close(filter_circular(x, spectrum), torch.from_numpy(want))


def test_half_precision_is_transformed_in_single() -> None:
    x, kernel = drawn(1, 7, 2), drawn(13, 2)
    got = convolve(x.bfloat16(), kernel.float(), axes=1)
    assert got.dtype == torch.bfloat16
    assert_close(got.double(), convolve(x.bfloat16().double(), kernel, axes=1), atol=0.05, rtol=0.01)


def test_fast_lengths_have_small_factors() -> None:
    assert [fast_length(n) for n in (1, 7, 11, 13, 31, 121)] == [1, 8, 12, 15, 32, 125]
