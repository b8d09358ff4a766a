"""Blends of samples, with the labels' shares."""

import numpy as np
import pytest
import torch

from pipelines.loading import Loader
from pipelines.loading.augment.blend import blend
from pipelines.shards.dataset import Dataset


def batch() -> dict[str, torch.Tensor]:
    """Each picture is its class number everywhere, so that the shares can be read from the pixels."""
    label = torch.tensor([0, 1, 2, 3])
    return {"image": label.float()[:, None, None, None].expand(4, 3, 40, 40).clone(), "label": label}


@pytest.mark.parametrize("mode", ["mixup", "cutmix"])
def test_shares_of_labels_are_shares_of_pixels(mode: str) -> None:
    seen = []
    for seed in range(10):
        out = blend(batch(), np.random.default_rng(seed), alphas={mode: 1.0}, num_classes=4)
        numbers = (out["soft_label"] * torch.arange(4.0)).sum(1)
        assert torch.allclose(out["image"].mean((1, 2, 3)), numbers, atol=1e-5)
        assert torch.allclose(out["soft_label"].sum(1), torch.ones(4))
        seen.append(float(out["soft_label"][0, 0]))
    assert len(set(seen)) > 5


def test_cutmix_takes_one_rectangle() -> None:
    out = blend(batch(), np.random.default_rng(1), alphas={"cutmix": 1.0}, num_classes=4)
    changed = (out["image"][0, 0] != 0).nonzero()
    (top, left), (bottom, right) = changed.min(0).values, changed.max(0).values
    assert len(changed) == (bottom - top + 1) * (right - left + 1)


def test_samples_without_a_label_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a label on every sample"):
        blend(
            batch() | {"label": torch.tensor([0, -1, 0, 0])},
            np.random.default_rng(0),
            alphas={"mixup": 1},
            num_classes=4,
        )


def test_the_loader_blends_the_same_way_every_time(dataset: Dataset) -> None:
    options = {"batch_size": 8, "options": {"size": 8}, "blend": {"mixup": 0.4, "cutmix": 1.0}}
    first, again = Loader(dataset, num_workers=2, **options), Loader(dataset, **options)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert one["soft_label"].shape == (8, len(dataset.manifest.classes))
        assert torch.equal(one["soft_label"], other["soft_label"])
    with pytest.raises(ValueError, match="blend: want"):
        Loader(dataset, batch_size=8, blend={"mix": 1})
