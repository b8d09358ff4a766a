"""swin: windows, shifted windows and merging, against two independent implementations."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer


def test_swin_equals_transformers(transformers: Any, agree: Any) -> None:
    config = transformers.SwinConfig(num_labels=11, drop_path_rate=0.0)
    peer = transformers.SwinForImageClassification(config)
    # the second size needs padding in every stage
    agree(
        "swin_tiny", peer, source="transformers", sizes=[(224, 224), (240, 250)], options={"num_classes": 11}
    )


def test_swin_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("swin_tiny_patch4_window7_224", num_classes=11)
    agree("swin_tiny", peer, source="timm", sizes=[(224, 224)], options={"num_classes": 11})


@pytest.mark.parametrize("size", [(32, 32), (57, 130)])
def test_swin_takes_any_size(size: tuple[int, int]) -> None:
    ours = create_model("swin_tiny").eval()
    with torch.no_grad():
        stages = ours.features(torch.randn(1, 3, *size))
        assert ours(torch.randn(1, 3, *size)).isfinite().all()
    for stage, stride in zip(stages, (4, 8, 16, 32), strict=True):
        assert stage.map().shape[2:] == tuple(-(-s // stride) for s in size)


def test_swin_shifted_block_equals_attention_inside_window_and_region() -> None:
    torch.manual_seed(0)
    h, w, size, shift = 14, 21, 7, 3
    mixer = create_mixer("window", dim=16, head_dim=8, window=size, shifted=True).double().eval()
    x = torch.randn(2, h * w, 16, dtype=torch.float64)
    rows, cols = (torch.arange(n) for n in (h, w))

    def cell(place: torch.Tensor, length: int) -> torch.Tensor:  # window and region along one axis, unrolled
        moved = (place - shift) % length
        return moved // size * 2 + (place < shift)

    label = cell(rows, h)[:, None] * 1000 + cell(cols, w)[None]
    allowed = label.flatten()[:, None] == label.flatten()[None]
    y, z = torch.meshgrid(rows, cols, indexing="ij")
    places = torch.stack([y, z], -1).flatten(0, 1)
    offset = (places[:, None] - places[None] + size - 1).clamp(0, 2 * size - 2)
    bias = mixer.bias[offset[..., 0] * (2 * size - 1) + offset[..., 1]].permute(2, 0, 1)
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    scores = (q @ k.mT / 8**0.5 + bias).masked_fill(~allowed, -torch.inf)
    dense = mixer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
    assert_close(mixer(x, Layout(grid=(h, w))), dense)
