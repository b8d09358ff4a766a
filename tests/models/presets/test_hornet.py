"""hornet: an operation of order n multiplies n + 1 copies of its input, gate by gate."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model
from models.imports import export_state, import_state
from models.layout import Layout
from models.mixers.gnconv import RecursiveGatedConv

H, W = 5, 6


def build(order: int) -> tuple[RecursiveGatedConv, Tensor]:
    torch.manual_seed(0)
    mixer = RecursiveGatedConv(16, order=order, kernel=3).double()
    for name, parameter in mixer.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return mixer, torch.randn(2, H * W, 16, dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_hornet_of_order_n_is_homogeneous_of_degree_n_plus_one(order: int) -> None:
    mixer, x = build(order)
    with torch.no_grad():
        once, twice = (mixer(factor * x, Layout(grid=(H, W))) for factor in (1.0, 1.5))
    assert_close(twice, 1.5 ** (order + 1) * once, atol=1e-12, rtol=1e-10)
    assert once.abs().max() > 1e-9


def test_hornet_loses_an_order_with_a_gate() -> None:
    mixer, x = build(4)
    constant = nn.Linear(4, 8).double()  # a gate that no longer listens to what came before
    nn.init.zeros_(constant.weight)
    mixer.gates[1] = constant
    with torch.no_grad():
        once, twice = (mixer(factor * x, Layout(grid=(H, W))) for factor in (1.0, 2.0))
    assert_close(twice, 2.0**2 * once)  # of five factors, the two behind the constant are left


def test_hornet_equals_a_loop_of_explicit_products() -> None:
    order = 3
    mixer, x = build(order)
    widths = [4, 8, 16]
    mapped = x @ mixer.inner.weight.T
    p, q = mapped[..., :4], mapped[..., 4:]
    conv = mixer.filter.conv
    maps = F.conv2d(q.mT.unflatten(-1, (H, W)), conv.weight, padding=1, groups=28).flatten(2).mT
    start = 0
    for k, width in enumerate(widths):
        if k:
            p = p @ mixer.gates[k - 1].weight.T
        product = torch.zeros(2, H * W, width, dtype=torch.float64)
        for c in range(width):
            product[..., c] = p[..., c] * maps[..., start + c] / 3
        p, start = product, start + width
    assert_close(mixer(x, Layout(grid=(H, W))), p @ mixer.out.weight.T)


# Names of mmpretrain's modules, numbers as #; those of its package wherever that is installed.
THEIRS = """
    backbone.downsample_layers.#.# backbone.norm# backbone.stages.#.#.gamma#
    backbone.stages.#.#.gnconv.dwconv backbone.stages.#.#.gnconv.dwconv.dw
    backbone.stages.#.#.gnconv.dwconv.post_norm backbone.stages.#.#.gnconv.dwconv.pre_norm
    backbone.stages.#.#.gnconv.proj_in backbone.stages.#.#.gnconv.proj_out
    backbone.stages.#.#.gnconv.projs.# backbone.stages.#.#.norm# backbone.stages.#.#.pwconv# head.fc
"""


def test_hornet_weights_go_to_mmpretrains_names_and_back(modules: Any) -> None:
    state = create_model("hornet_tiny_gf", depths=(1, 1, 1, 1)).state_dict()
    theirs = export_state("hornet_tiny_gf", state, source="mmpretrain")
    assert modules(theirs) == set(THEIRS.split())
    assert theirs["backbone.stages.3.0.gnconv.projs.3.weight"].shape == (512, 256, 1, 1)
    assert theirs["backbone.stages.2.0.gnconv.dwconv.complex_weight"].shape == (240, 14, 8, 2)
    back = import_state("hornet_tiny_gf", theirs, source="mmpretrain")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("arch", ["tiny", "tiny-gf"])
def test_hornet_equals_mmpretrain(arch: str, mmpretrain: Any, agree: Any) -> None:
    head = {"type": "LinearClsHead", "num_classes": 1000, "in_channels": 512}
    backbone = {"type": "HorNet", "arch": arch}
    peer = mmpretrain.build_classifier({"type": "ImageClassifier", "backbone": backbone, "head": head})
    sizes = [(64, 96), (224, 224)] if arch == "tiny-gf" else [(64, 96)]  # spectra as they are at 224
    name = f"hornet_{arch.replace('-', '_')}"
    agree(name, peer, source="mmpretrain", sizes=sizes, std=0.1, title="HorNet")
