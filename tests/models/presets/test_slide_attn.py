"""slide_attn: shifts by one depthwise convolution are local attention; two branches merge into one kernel."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers.slide import SlideAttention
from models.ops.neighbourhood import Neighbourhood
from models.ops.neighbourhood.reference import reference


def build(plain: bool) -> SlideAttention:
    torch.manual_seed(0)
    mixer = SlideAttention(8, head_dim=4).double()
    if plain:
        for parameter in (mixer.deform.weight, mixer.deform.bias, mixer.bias):
            torch.nn.init.zeros_(parameter)
    return mixer


def tokens(h: int, w: int) -> Tensor:
    return torch.randn(2, h * w, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_slide_attn_with_plain_shifts_is_neighbourhood_attention_inside() -> None:
    h, w, mixer = 7, 9, build(plain=True)
    x = tokens(h, w)
    q, k, v = mixer.qkv(x).view(2, h, w, 3, 2, 4).unbind(3)
    dense = mixer.out(reference(q, k, v, None, Neighbourhood.on(2, 3)).flatten(-2))
    got = mixer(x, Layout(grid=(h, w))).view_as(dense)
    assert_close(got[:, 1:-1, 1:-1], dense[:, 1:-1, 1:-1], atol=1e-12, rtol=1e-12)


def test_slide_attn_with_plain_shifts_is_dense_attention_over_a_raster_with_zeros_around() -> None:
    h, w, mixer = 5, 6, build(plain=True)
    x = tokens(h, w)
    q, k, v = mixer.qkv(x).view(2, h, w, 3, 2, 4).unbind(3)
    k, v = (F.pad(t, (0, 0, 0, 0, 1, 1, 1, 1)) for t in (k, v))
    allowed = torch.zeros(h * w, (h + 2) * (w + 2), dtype=torch.bool)
    for y, z, dy, dx in product(range(h), range(w), range(3), range(3)):
        allowed[y * w + z, (y + dy) * (w + 2) + z + dx] = True
    q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))
    dense = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    want = mixer.out(dense.transpose(1, 2).flatten(2))
    assert_close(mixer(x, Layout(grid=(h, w))), want, atol=1e-12, rtol=1e-12)


def test_slide_attn_merged_kernel_equals_two_branches_after_training() -> None:
    mixer, x = build(plain=False), tokens(6, 5)
    optimiser = torch.optim.SGD(mixer.parameters(), lr=0.1)
    before = mixer.deform.weight.clone()
    for _ in range(3):
        optimiser.zero_grad()
        mixer(x, Layout(grid=(6, 5))).sub(x.flip(1)).square().mean().backward()
        optimiser.step()
    assert (mixer.deform.weight - before).abs().max() > 1e-5
    k = torch.randn(1, 2, 4, 30, dtype=torch.float64)
    maps = k.flatten(0, 1).unflatten(-1, (6, 5))
    fixed = F.conv2d(maps, mixer.shifts, padding=1, groups=4)
    learned = F.conv2d(maps, mixer.deform.weight, mixer.deform.bias, padding=1, groups=4)
    want = (fixed + learned).unflatten(1, (4, 9)).flatten(3)[None]
    assert_close(mixer.slide(k, (6, 5)), want, atol=1e-12, rtol=1e-12)


def test_slide_attn_needs_no_gather_or_unfold() -> None:
    mixer, layout = build(plain=False), Layout(grid=(6, 5))

    graph = make_fx(lambda x: mixer(x, layout))(tokens(6, 5)).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert "aten.convolution.default" in called
    assert not [name for name in called if any(w in name for w in ("unfold", "im2col", "gather", "index"))]


def test_slide_attn_model_has_windows_as_large_as_the_deep_rasters() -> None:
    model = create_model("slide_swin_tiny").eval()
    with torch.no_grad():
        stages = model.features(torch.randn(1, 3, 224, 224))
    assert stages[2].layout.grid == (14, 14)
    (kinds,) = {tuple(type(block.mixer).__name__ for block in model.backbone.stages[i]) for i in (0, 1)}
    assert kinds == ("SlideAttention", "SlideAttention")
