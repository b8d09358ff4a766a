"""kernel_rpe_fft: linear attention with a Toeplitz factor, by Fourier transform."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.layout import Layout
from models.mixers import create_mixer
from models.ops.fourier import convolve


def made(grid: tuple[int, ...], *, drawn: bool = True, **options: Any) -> Any:
    torch.manual_seed(0)
    mixer = create_mixer("kernel_rpe", 8, head_dim=4, features=6, axes=len(grid), grid=grid, **options)
    if drawn:
        torch.nn.init.normal_(mixer.table.weight)
    return mixer.double()


def dense(mixer: Any, x: Tensor, toeplitz: Tensor) -> Tensor:
    """With every weight written out; `toeplitz` is (h, n, n)."""
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 2, 4)).unbind(2)
    weights = torch.einsum("bihm,bjhm->bhij", mixer.features(q), mixer.features(k)) * toeplitz
    weights = weights / weights.sum(-1, keepdim=True)
    return mixer.out(torch.einsum("bhij,bjhe->bihe", weights, v).flatten(-2))


@pytest.mark.parametrize("grid", [(11,), (4, 5)])
def test_kernel_rpe_fft_equals_dense_attention_with_a_toeplitz_factor(grid: tuple[int, ...]) -> None:
    mixer, n = made(grid), math.prod(grid)
    x = torch.randn(2, n, 8, dtype=torch.float64)
    factor = mixer.table(grid).exp()
    assert_close(mixer(x, Layout(grid=grid)), dense(mixer, x, factor), atol=1e-10, rtol=0)
    assert factor.std() > 0.5


def test_kernel_rpe_fft_factor_equals_scipys_toeplitz_product() -> None:
    from scipy.linalg import matmul_toeplitz

    mixer = made((9,))
    kernel = mixer.table.offsets((9,)).exp()[:, 0].detach()
    x = torch.randn(9, dtype=torch.float64)
    got = convolve(x[None, :, None], kernel[:, None], axes=1)[0, :, 0]
    want = matmul_toeplitz((kernel[8:].numpy(), kernel[:9].flip(0).numpy()), x.numpy())
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)


def test_kernel_rpe_fft_without_a_bias_is_linear_attention() -> None:
    mixer = made((11,), drawn=False)
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 2, 4)).unbind(2)
    q, k = mixer.features(q), mixer.features(k)
    state, total = torch.einsum("bjhm,bjhe->bhme", k, v), k.sum(1)
    y = torch.einsum("bihm,bhme->bihe", q, state) / torch.einsum("bihm,bhm->bih", q, total)[..., None]
    assert_close(mixer(x, Layout()), mixer.out(y.flatten(-2)), atol=1e-10, rtol=0)


def test_kernel_rpe_fft_features_converge_to_softmax_at_the_rate_of_sampling() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.nn.functional.normalize(t, dim=-1) for t in torch.randn(2, 1, 20, 1, 4, generator=draw))
    want = torch.einsum("bihe,bjhe->bhij", q, k).softmax(-1)

    def error(features: int) -> float:
        worst = []
        for seed in range(8):
            torch.manual_seed(seed)
            mixer = create_mixer("kernel_rpe", 4, head_dim=4, features=features)
            weights = torch.einsum("bihm,bjhm->bhij", mixer.features(q), mixer.features(k))
            worst.append(float((weights / weights.sum(-1, keepdim=True) - want).square().mean()))
        return (sum(worst) / len(worst)) ** 0.5

    errors = [error(features) for features in (64, 256, 1024, 4096)]
    slope = np.polyfit(np.log([64, 256, 1024, 4096]), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4


def fft_flops(shape: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """5 n log2 n for each transform, the count that FFTW's authors use."""
    size = math.prod(max(shape[d], out_shape[d]) for d in dims)
    others = math.prod(shape) // math.prod(shape[d] for d in dims)
    return int(5 * size * math.log2(max(size, 2)) * others)


def test_kernel_rpe_fft_of_four_times_the_tokens_costs_less_than_five_and_a_half_times() -> None:
    mixer, aten = made((64,)).float(), torch.ops.aten

    def flops(n: int) -> int:
        counted = {op: fft_flops for op in (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)}
        with FlopCounterMode(display=False, custom_mapping=counted) as counter, torch.no_grad():
            mixer(torch.randn(1, n, 8), Layout())
        assert counter.get_flop_counts()["Global"].keys() & counted.keys(), "transforms must be counted"
        return counter.get_total_flops()

    assert 4 <= flops(4096) / flops(1024) < 5.5
