"""channelvit: a token for every patch of every channel, and training on random subsets of channels."""

from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model
from models.stems.spectral import draw_bands

BANDS = 6


def cube(bands: int = BANDS) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, bands, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, torch.linspace(400, 2400, bands, dtype=torch.float64).expand(2, -1)


def nano(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model("channelvit_nano", **options).double().eval()


def test_channelvit_does_not_depend_on_the_order_of_bands_with_their_names() -> None:
    model, (x, names) = nano(), cube()
    order = torch.randperm(BANDS)
    assert_close(
        model(x[:, order], wavelengths=names[:, order]), model(x, wavelengths=names), atol=1e-10, rtol=0
    )
    assert (model(x[:, order], wavelengths=names) - model(x, wavelengths=names)).abs().max() > 1e-4


def test_channelvit_dropping_a_band_equals_hiding_its_tokens() -> None:
    model, (x, names) = nano(), cube()
    keep = torch.arange(BANDS) != 2
    tokens = torch.repeat_interleave(keep, 4).expand(2, -1)
    hidden = model(x, wavelengths=names, mask=tokens)
    assert_close(hidden, model(x[:, keep], wavelengths=names[:, keep]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("bands", [(0,), (5, 1), (3, 0, 4, 2)])
def test_channelvit_runs_any_subset_of_bands(bands: tuple[int, ...]) -> None:
    x, names = cube()
    assert nano()(x[:, bands], wavelengths=names[:, bands]).isfinite().all()


def test_channelvit_draws_sizes_and_bands_uniformly() -> None:
    torch.manual_seed(0)
    sizes, bands = torch.zeros(BANDS), torch.zeros(BANDS)
    for _ in range(3000):
        kept = draw_bands(BANDS)
        assert len(set(kept.tolist())) == len(kept)
        sizes[len(kept) - 1] += 1
        bands[kept] += 1
    assert chisquare(sizes.numpy()).pvalue > 0.01
    assert chisquare(bands.numpy()).pvalue > 0.01


def test_channelvit_samples_bands_in_training_only() -> None:
    torch.manual_seed(0)
    model, (x, names) = nano(), cube()

    def bands() -> int:
        return model.embed(x, wavelengths=names)[1].grid[0]

    assert {bands() for _ in range(20)} == {BANDS}
    model.train()
    assert {bands() for _ in range(100)} == set(range(1, BANDS + 1))


def accuracy_after_training(sample: bool) -> tuple[float, float]:
    """With all bands, and the mean over each band alone; each tells the class, the first best."""
    torch.manual_seed(0)
    templates = torch.randn(4, 4, 8, 8) * torch.tensor([3.0, 1, 1, 1])[:, None, None]  # class, band
    names = torch.tensor([400.0, 500, 600, 700])
    model = create_model(
        "channelvit_nano", num_classes=4, depth=1, sample=sample, **{"stem.patch": 4}
    ).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        label = torch.randint(4, (count,))
        return templates[label] + 0.7 * torch.randn(count, 4, 8, 8), label

    for _ in range(250):
        x, label = draw(32)
        loss = nn.functional.cross_entropy(model(x, wavelengths=names.expand(len(x), -1)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    x, label = draw(400)

    def accuracy(bands: list[int]) -> float:
        with torch.no_grad():
            scores = model(x[:, bands], wavelengths=names[bands].expand(len(x), -1))
        return float((scores.argmax(1) == label).float().mean())

    return accuracy([0, 1, 2, 3]), sum(accuracy([band]) for band in range(4)) / 4


def test_channelvit_sampling_keeps_accuracy_at_one_band_where_the_control_collapses() -> None:
    whole, single = accuracy_after_training(sample=True)
    assert single > whole - 0.1
    control, collapsed = accuracy_after_training(sample=False)
    assert control > 0.95
    assert collapsed < control - 0.15
