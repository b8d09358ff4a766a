"""dat: without offsets it is dense attention with a bias for each displacement; offsets move what is read."""

import types
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.deformable import DeformableAttention
from models.ops.flops import count_flops

H, W = 5, 6


def build(corners: bool = False, **options: int) -> tuple[DeformableAttention, Tensor]:
    torch.manual_seed(0)
    mixer = DeformableAttention(16, groups=2, kernel=3, grid=(H, W), head_dim=4, corners=corners, **options)
    torch.nn.init.normal_(mixer.table)
    return mixer.double(), torch.randn(2, H * W, 16, dtype=torch.float64)


def read(table: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """A table between its entries, by hand: the four around (y, x), weighted."""
    total = torch.zeros((), dtype=torch.float64)
    for i in (int(y.floor()), int(y.floor()) + 1):
        for j in (int(x.floor()), int(x.floor()) + 1):
            if 0 <= i < table.shape[0] and 0 <= j < table.shape[1]:
                total = total + (1 - (y - i).abs()) * (1 - (x - j).abs()) * table[i, j]
    return total


@pytest.mark.parametrize("corners", [False, True])
def test_dat_without_offsets_is_dense_attention_with_sampled_biases(corners: bool) -> None:
    mixer, x = build(corners)
    torch.nn.init.zeros_(mixer.offset.weight)
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (H, W))
    if corners:  # the code's reading: references are drawn a little together
        rows, columns = (rows + 0.5) / H * (H - 1), (columns + 0.5) / W * (W - 1)
    with torch.no_grad():
        maps = x.view(2, H, W, 16).permute(0, 3, 1, 2)
        keys = torch.stack(
            [
                torch.stack([torch.stack([read(m, y, z) for m in maps.flatten(0, 1)]) for z in columns])
                for y in rows
            ]
        )  # (H, W, b d)
        k, v = mixer.kv(keys.unflatten(2, (2, 16)).permute(2, 0, 1, 3).flatten(1, 2)).chunk(2, -1)
        q, k, v = (t.unflatten(2, (4, 4)).transpose(1, 2) for t in (mixer.q(x), k, v))
        scores = q @ k.mT / 2
        for i in range(H * W):
            for j in range(H * W):
                dy, dx = torch.tensor(i // W - j // W).double(), torch.tensor(i % W - j % W).double()
                if corners:
                    dy, dx = dy * (H - 1) / H, dx * (W - 1) / W
                for head in range(4):
                    scores[:, head, i, j] += read(mixer.table[head], dy + H - 1, dx + W - 1)
        want = mixer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        assert_close(mixer(x, Layout(grid=(H, W))), want, atol=1e-10, rtol=1e-10)


def test_dat_offset_of_one_place_reads_the_shifted_map() -> None:
    mixer, x = build()
    torch.nn.init.zeros_(mixer.offset.weight)
    places = mixer.places(mixer.q(x), Layout(grid=(H, W)))
    moved = places + torch.tensor([2 / H, -2 / W], dtype=torch.float64)  # one row down, one column left
    maps = x.view(2, H, W, 16)
    want = torch.zeros_like(maps)
    want[:, :-1, 1:] = maps[:, 1:, :-1]
    assert_close(mixer.sample(x, places, (H, W)).view_as(maps), maps, atol=1e-12, rtol=1e-12)
    assert_close(mixer.sample(x, moved, (H, W)).view_as(maps), want, atol=1e-12, rtol=1e-12)


def test_dat_offsets_learn_and_keep_within_their_reach() -> None:
    mixer, x = build(corners=True)
    mixer(x, Layout(grid=(H, W))).square().sum().backward()
    assert mixer.offset.weight.grad is not None
    assert mixer.offset.weight.grad.abs().min() > 0
    with torch.no_grad():
        mixer.offset.weight.mul_(1e6)
        far = mixer.places(mixer.q(x), Layout(grid=(H, W))).view(2, 2, H, W, 2)
        mixer.offset.weight.zero_()
        still = mixer.places(mixer.q(x), Layout(grid=(H, W))).view(2, 2, H, W, 2)
    reach = (far - still).abs().amax((0, 1, 2, 3))
    assert_close(reach, torch.tensor([mixer.reach / H, mixer.reach / W], dtype=torch.float64))


def test_dat_cost_is_linear_in_queries_when_the_keys_stay_as_many() -> None:
    def flops(side: int, stride: int) -> int:
        mixer, _ = build(stride=stride)
        x = torch.zeros(1, side * side, 16, dtype=torch.float64)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, Layout(grid=(side, side))))

    assert flops(32, 4) < 4.1 * flops(16, 2)  # 8 x 8 keys in both


def test_dat_reads_between_places_as_agreed_with_transformers(
    transformers: types.ModuleType, near: Any
) -> None:
    """The sampling alone, which the peer's attention over several rasters also begins with."""
    from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

    mixer, x = build()
    mixer, x = mixer.float(), x.float()
    places = torch.rand(4, 11, 2) * 2.4 - 1.2  # some outside of the raster
    at = (places.view(2, 2, 11, 2).transpose(1, 2).flip(-1) + 1) / 2  # (b, m, g, xy), 0 and 1 at its edges
    theirs: Any = MultiScaleDeformableAttention()
    want = theirs(
        x.view(2, H * W, 2, 8), torch.tensor([[H, W]]), [(H, W)], torch.tensor([0]), at[:, :, :, None, None],
        torch.ones(2, 11, 2, 1, 1), 64,
    )  # fmt: skip
    near("deformable", "transformers", "MultiScaleDeformableAttention", mixer.sample(x, places, (H, W)), want)
