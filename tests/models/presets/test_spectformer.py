"""spectformer: frequency gates, then attention."""

from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer
from models.presets.base import resolve

GRID = (9, 6)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_spectformer_gate_is_a_circular_convolution_with_its_kernel() -> None:
    gate = create_mixer("spectral_gating", 5, grid=GRID).double()
    with torch.no_grad():
        gate.weight.normal_()
    kernel = torch.fft.irfft2(torch.view_as_complex(gate.weight), s=GRID, dim=(0, 1))
    x = drawn(2, *GRID, 5)
    want = torch.zeros_like(x)
    for i in range(GRID[0]):
        for j in range(GRID[1]):
            want += kernel[i, j] * x.roll((i, j), (1, 2))
    got = gate(x.flatten(1, 2), Layout(grid=GRID)).unflatten(1, GRID)
    assert_close(got, want, atol=1e-10, rtol=0)


def test_spectformer_gate_of_ones_is_the_identity_on_every_raster() -> None:
    gate = create_mixer("spectral_gating", 5, grid=GRID).double()
    with torch.no_grad():
        gate.weight.copy_(torch.tensor([1.0, 0.0]))
    for grid in (GRID, (4, 7), (13, 10)):
        x = drawn(2, grid[0] * grid[1], 5)
        assert_close(gate(x, Layout(grid=grid)), x, atol=1e-12, rtol=0)


def test_spectformer_gate_turns_with_the_raster() -> None:
    gate = create_mixer("spectral_gating", 5, grid=GRID).double()
    x = drawn(2, *GRID, 5)

    def run(x: Tensor) -> Tensor:
        return gate(x.flatten(1, 2), Layout(grid=GRID)).unflatten(1, GRID)

    for shift in ((1, 0), (0, 1), (4, 5)):
        assert_close(run(x.roll(shift, (1, 2))), run(x).roll(shift, (1, 2)), atol=1e-12, rtol=0)


def test_spectformer_of_alpha_zero_equals_timms_vit(timm: Any, agree: Any) -> None:
    peer = timm.create_model(
        "vit_small_patch16_224", class_token=False, global_pool="avg", fc_norm=False, num_classes=11
    )
    plain = {"mixers": ({"name": "attention", "head_dim": 64},), "num_classes": 11}
    agree("spectformer_xs", peer, source="timm", sizes=[(224, 224)], options=plain)


def test_spectformer_spectral_block_has_one_residual() -> None:
    torch.manual_seed(0)
    model = create_model("spectformer_nano").double()
    gates = [block.mixer is not None and hasattr(block.mixer, "weight") for block in model.backbone.blocks]
    assert gates == [True, True, False, False]
    published = [(m["name"], m.get("block")) for m in resolve("spectformer_xs")["mixers"][0]]
    assert published == [("spectral_gating", {"order": "single"})] * 4 + [("attention", None)] * 8
    block, x, layout = model.backbone.blocks[0], drawn(2, 64, 64), Layout(grid=(8, 8))
    inner = block.norm2(block.mixer(block.norm1(x, layout), layout), layout)
    assert_close(block(x, layout), x + block.channel(inner, layout))
