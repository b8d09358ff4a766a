"""convnext: large depthwise convolutions, against two independent implementations."""

from typing import Any

import pytest
import torch

from models import create_model
from models.layout import Layout

SIZES = [(64, 64), (96, 160)]


def test_convnext_equals_transformers(transformers: Any, agree: Any) -> None:
    # 1e-12 is the default of that package, the authors' code has 1e-6 in every norm
    dims, depths = (16, 32, 48, 64), (1, 2, 1, 1)
    config = transformers.ConvNextConfig(
        num_labels=11, layer_norm_eps=1e-6, hidden_sizes=list(dims), depths=list(depths)
    )
    peer = transformers.ConvNextForImageClassification(config)
    small = {"num_classes": 11, "dims": dims, "depths": depths}
    agree("convnext_tiny", peer, source="transformers", sizes=SIZES, options=small)


def test_convnext_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("convnext_tiny", num_classes=11)
    agree("convnext_tiny", peer, source="timm", sizes=SIZES, options={"num_classes": 11})


def test_convnext_block_without_layer_scale_is_exactly_the_identity() -> None:
    model = create_model("convnext_nano", layer_scale=0.0)
    for stage, dim in zip(model.backbone.stages, model.backbone.dims, strict=True):
        for block in stage:
            x = torch.randn(2, 30, dim)
            assert torch.equal(block(x, Layout(grid=(5, 6))), x)
            torch.nn.init.ones_(block.scale2.gamma)
            assert not torch.equal(block(x, Layout(grid=(5, 6))), x)


def test_convnext_tiny_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = create_model("convnext_tiny")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(28.6, abs=0.05)
