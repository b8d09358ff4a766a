import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.spatial_spectral import SpatialSpectralAttention

GRID = (6, 2, 3)


@pytest.fixture
def mixer() -> SpatialSpectralAttention:
    torch.manual_seed(0)
    return SpatialSpectralAttention(16, head_dim=4).double()


def cube(seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 36, 16, dtype=torch.float64, generator=draw)
    return x, 400 + 2000 * torch.rand(2, 6, dtype=torch.float64, generator=draw)


def test_permuting_bands_with_their_wavelengths_permutes_the_output(mixer: SpatialSpectralAttention) -> None:
    x, nm = cube()
    order = torch.tensor([4, 0, 5, 2, 1, 3])

    def permute(t: Tensor) -> Tensor:
        return t.unflatten(1, (6, 6))[:, order].flatten(1, 2)

    got = mixer(permute(x), Layout(grid=GRID, wavelengths=nm[:, order]))
    assert_close(got, permute(mixer(x, Layout(grid=GRID, wavelengths=nm))))
    assert not torch.allclose(got, permute(mixer(x, Layout(grid=GRID, wavelengths=nm[:, order]))))


def test_only_differences_of_wavelength_matter(mixer: SpatialSpectralAttention) -> None:
    x, nm = cube()
    here = mixer(x, Layout(grid=GRID, wavelengths=nm))
    assert_close(here, mixer(x, Layout(grid=GRID, wavelengths=nm + 137.0)))
    assert not torch.allclose(here, mixer(x, Layout(grid=GRID, wavelengths=nm * 1.1)))


def test_equals_dense_attention_over_space_and_over_bands(mixer: SpatialSpectralAttention) -> None:
    x, _ = cube()
    band, place = torch.arange(36) // 6, torch.arange(36) % 6
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    allowed = torch.stack([band[:, None] == band] * 2 + [place[:, None] == place] * 2)
    weights = (q @ k.mT / 2).masked_fill(~allowed, -torch.inf).softmax(-1)
    want = mixer.out((weights @ v).transpose(1, 2).flatten(2))
    assert_close(mixer(x, Layout(grid=GRID)), want)


def test_rejects_an_odd_number_of_heads() -> None:
    with pytest.raises(ValueError, match="must be even, got 48 / 16"):
        SpatialSpectralAttention(48, head_dim=16)
