import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from models import create_model, create_task
from models.layout import Layout, Stage
from models.necks.base import NECKS, on_stem
from models.stems.base import STEMS


def test_equals_the_layers_of_the_paper_on_rasters() -> None:
    torch.manual_seed(0)
    neck = NECKS.create("simple_pyramid", (8,), width=6).double()
    for parameter in neck.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    image = x.mT.unflatten(-1, (3, 4))

    def norm(y: torch.Tensor, layer: nn.Module) -> torch.Tensor:  # over channels, by hand
        off = y - y.mean(1, keepdim=True)
        var = off.square().mean(1, keepdim=True)
        return off / (var + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    (first, second), (once,), _, _ = neck.scales
    quarter = second.conv(F.gelu(norm(first.conv(image), first.norm)))
    for stage, y, a, b in zip(
        neck([Stage(x, Layout(grid=(3, 4)))]),
        (quarter, once.conv(image), image, F.max_pool2d(F.pad(image, (0, 0, 0, 1), value=-math.inf), 2)),
        neck.narrow,
        neck.smooth,
        strict=True,
    ):
        assert a.conv.bias is b.conv.bias is None
        y = norm(F.conv2d(y, a.conv.weight), a.norm)
        assert_close(stage.map(), norm(F.conv2d(y, b.conv.weight, padding=1), b.norm))


def test_without_norms_equals_the_pyramid_of_sam_3() -> None:
    sam3 = pytest.importorskip("transformers.models.sam3.modeling_sam3")
    torch.manual_seed(0)
    neck, x = NECKS.create("simple_pyramid", (16,), width=6, norm=None), torch.randn(2, 24, 16)
    stages = neck([Stage(x, Layout(grid=(4, 6)))])
    for scale, ours, narrow, smooth, stage in zip(
        (4.0, 2.0, 1.0, 0.5), neck.scales, neck.narrow, neck.smooth, stages, strict=True
    ):
        peer = sam3.Sam3FPNLayer(16, 6, scale)
        theirs = [layer for layer in peer.scale_layers if isinstance(layer, nn.ConvTranspose2d)]
        mine = [step.conv for step in ours if hasattr(step, "conv")]
        for a, b in zip([*theirs, peer.proj1, peer.proj2], [*mine, narrow.conv, smooth.conv], strict=True):
            a.load_state_dict(b.state_dict())
        assert_close(stage.map(), peer(x.mT.unflatten(-1, (4, 6))), atol=1e-5, rtol=0)


def test_a_plain_transformer_has_four_strides_and_answers_every_pixel() -> None:
    torch.manual_seed(0)
    options = {"neck": "simple_pyramid", "neck.width": 8, "head": "segmentation"}
    model, x = create_model("kat_nano", num_classes=3, patch=16, **options).eval(), torch.randn(2, 3, 50, 67)
    with torch.no_grad():
        grids = [stage.map().shape[2:] for stage in model.features(x)]
        assert grids == [(16, 20), (8, 10), (4, 5), (2, 3)]
        assert model(x).shape == (2, 3, 50, 67)
    model(x).square().sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]


def test_a_clip_is_answered_pixel_by_pixel() -> None:
    options = {"neck": "simple_pyramid", "neck.width": 8, "head": "segmentation"}
    model = create_model("fna_video_nano", num_classes=3, **options).eval()
    assert model(torch.randn(1, 3, 4, 17, 24)).shape == (1, 3, 4, 17, 24)


def test_answers_of_finer_places_stand_where_their_pixels_are() -> None:
    stem = STEMS.create("patch", 3, 8, patch=8)  # a place of the fourfold raster has 2 x 2 pixels
    truth = torch.arange(2 * 5 * 16 * 24.0).view(2, 5, 16, 24)
    fine = STEMS.create("patch", 5, 8, patch=2).cut(truth)  # (b, 8 * 12, 5 * 2 * 2)
    assert torch.equal(stem.join(on_stem(fine, (8, 12), 4, 2), (16, 24)), truth)


def test_says_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="backbones of one stage, got 4 stages"):
        create_model("swin_tiny", neck="simple_pyramid")
    with pytest.raises(ValueError, match="divides the side of a patch by 4, got patch=2"):
        create_model("kat_nano", neck="simple_pyramid", patch=2)
    with pytest.raises(ValueError, match="predicts the stem's tokens, which no neck can; take neck=None"):
        create_task("masked", model="kat_nano", inputs={"x": "image"}, num_outputs=0, neck="simple_pyramid")
    with pytest.raises(
        LookupError, match=r"no 'simple' in models.necks; did you mean one of .'simple_pyramid'"
    ):
        create_model("kat_nano", neck="simple")
    with pytest.raises(ValueError, match="grid of 2 or 3 axes in the layout, got None"):
        NECKS.create("simple_pyramid", (8,))([Stage(torch.zeros(1, 4, 8), Layout())])
