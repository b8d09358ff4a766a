"""Packs: full rows, the same for any number of ranks, and the same loss as padding."""

import json
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.layout import Layout
from models.mixers.attention import GlobalAttention
from pipelines.loading import Packs, Patches, Points
from pipelines.loading.packing import fill
from pipelines.shards.dataset import Dataset


@settings(max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=80), st.integers(50, 120))
def test_every_item_lies_in_one_pack_and_no_pack_is_over_budget(lengths: list[int], budget: int) -> None:
    packs = fill(lengths, budget)
    assert sorted(item for pack in packs for item in pack) == list(range(len(lengths)))
    assert all(0 < sum(lengths[item] for item in pack) <= budget for pack in packs)
    least = -(-sum(lengths) // budget)
    assert len(packs) <= 11 / 9 * max(least, sum(length > budget / 2 for length in lengths)) + 4


def test_mixed_aspect_ratios_fill_their_packs() -> None:
    """Photographs' sizes as they are met: 16:9 to 9:16, 0.1 to 12 megapixels."""
    draw = np.random.default_rng(0)
    patches = Patches(patch=16, max_tokens=256)
    sides = [
        (round(1000 * a * s), round(1000 / a * s))
        for a, s in zip(draw.uniform(0.75, 1.33, 4096), draw.uniform(0.1, 3.5, 4096), strict=True)
    ]
    lengths = [patches.length({"height": h, "width": w}) for h, w in sides]
    used = given_ = 0
    for start in range(0, 4096, 512):
        window = lengths[start : start + 512]
        used += sum(window)
        given_ += 2048 * len(fill(window, 2048))
    assert len(set(lengths)) > 20
    assert used / given_ >= 0.97


def test_clouds_fill_their_packs() -> None:
    draw = np.random.default_rng(0)
    lengths = np.minimum(draw.lognormal(7, 1, 2048).astype(int) + 1, 4096)
    used = given_ = 0
    for window in lengths.reshape(4, 512):
        used += window.sum()
        given_ += 16384 * len(fill(window.tolist(), 16384))
    assert used / given_ >= 0.97


@pytest.mark.parametrize(("height", "width"), [(10, 10), (480, 640), (10, 4000), (4000, 10), (3000, 2000)])
def test_a_grid_keeps_to_its_limit_and_about_to_the_aspect(height: int, width: int) -> None:
    rows, columns = Patches(patch=16, max_tokens=100).grid(height, width)
    assert 1 <= rows * columns <= 100
    if min(height, width) > 400:
        assert rows / columns == pytest.approx(height / width, rel=0.25)


def cloud_packs(clouds: Dataset, **options: Any) -> Packs:
    return Packs(clouds, **({"budget": 900, "tokens": Points(max_tokens=300), "lookahead": 12} | options))


def keys(packs: list[Any]) -> list[str]:
    return [key for pack in packs for key in pack["key"]]


def test_every_sample_comes_once_an_epoch(clouds: Dataset) -> None:
    packs, seen = cloud_packs(clouds), []
    for pack in packs:
        seen += pack["key"]
        assert pack["cu_seqlens"][-1] == pack["points"].shape[1] <= 900
        assert len(pack["label"]) == len(pack["key"]) == len(pack["cu_seqlens"]) - 1
        if packs.epoch == 1:
            break
    assert Counter(seen) == Counter(row.key for _, row in clouds)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_packs_resume_with_another_number_of_ranks_and_workers(clouds: Dataset, world: int) -> None:
    """Over the end of a window and of an epoch."""
    options = {"augment": ["rotate", "jitter"]}
    whole = list(islice(cloud_packs(clouds, **options), 16))
    start = cloud_packs(clouds, **options)
    list(islice(start, 4))
    state = json.loads(json.dumps(start.state_dict()))
    ranks = [
        cloud_packs(clouds, rank=r, world_size=world, num_workers=2 * r, **options) for r in range(world)
    ]
    for one in ranks:
        one.load_state_dict(state)
    found = list(zip(*(islice(one, 12 // world) for one in ranks), strict=True))
    for got, want in zip([pack for step in found for pack in step], whole[4:], strict=True):
        assert got["key"] == want["key"]
        assert torch.equal(got["points"], want["points"])
    assert len({json.dumps(one.state_dict()) for one in ranks}) == 1
    with pytest.raises(ValueError, match="the state is of budget 900, these packs have 1000"):
        cloud_packs(clouds, budget=1000).load_state_dict(state)


def test_patches_are_the_picture(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    made = Patches(patch=16)({"image": image}, 6, None)
    first = made["patches"][4].reshape(3, 16, 16)  # row 1, column 1
    want = (
        image[16:32, 16:32].transpose(2, 0, 1) / 255 - np.array([0.485, 0.456, 0.406])[:, None, None]
    ) / np.array([0.229, 0.224, 0.225])[:, None, None]
    assert np.allclose(first, want, atol=1e-5)
    assert made["coords"][4].tolist() == [1, 1]


class Net(nn.Module):
    """Tokens to classes, the mean over each sequence's own tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(width, 32), GlobalAttention(32), nn.Linear(32, 5)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.embed(x)
        return x + self.mix(x, layout)


@pytest.mark.parametrize("what", ["image", "pointcloud"])
def test_the_loss_is_that_of_padded_batches(what: str, dataset: Dataset, clouds: Dataset) -> None:
    torch.manual_seed(0)
    if what == "image":
        packs, field = Packs(dataset, budget=128, tokens=Patches(patch=8, max_tokens=60)), "patches"
    else:
        packs, field = cloud_packs(clouds), "points"
    pack = next(iter(packs))
    tokens, ends = pack[field], pack["cu_seqlens"].tolist()
    assert len(ends) > 2
    net = Net(tokens.shape[-1])
    target = torch.arange(len(ends) - 1) % 5
    packed = net(tokens, Layout(cu_seqlens=pack["cu_seqlens"]))[0]
    pooled = torch.stack([packed[a:b].mean(0) for a, b in pairwise(ends)])
    loss = nn.functional.cross_entropy(net.head(pooled), target)
    loss.backward()
    found = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    longest = max(b - a for a, b in pairwise(ends))
    padded = torch.zeros(len(ends) - 1, longest, tokens.shape[-1])
    mask = torch.zeros(len(ends) - 1, longest, dtype=torch.bool)
    for row, (a, b) in enumerate(pairwise(ends)):
        padded[row, : b - a], mask[row, : b - a] = tokens[0, a:b], True
    out = net(padded, Layout(mask=mask)) * mask[..., None]
    other = nn.functional.cross_entropy(net.head(out.sum(1) / mask.sum(1, keepdim=True)), target)
    other.backward()
    assert loss.item() == pytest.approx(other.item(), abs=1e-5)
    wanted = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    for got, want in zip(found, wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_a_sample_must_fit_into_the_budget(clouds: Dataset) -> None:
    with pytest.raises(ValueError, match="max_tokens must fit into the budget, got 300 and 200"):
        cloud_packs(clouds, budget=200)
