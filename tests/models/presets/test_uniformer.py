"""uniformer: local relations are an affinity of offsets, deep ones full attention; images are short clips."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model
from models.block import Block
from models.imports import export_state, import_state
from models.layout import Layout
from models.mixers.attention import GlobalAttention
from models.mixers.local_relation import LocalRelation


def settle(module: torch.nn.Module) -> torch.nn.Module:
    """Weights and statistics that are no longer those of a new model, in double precision."""
    draw = torch.Generator().manual_seed(1)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=draw) * 0.2
            value.copy_(1 + noise.abs() if name.endswith("running_var") else value + noise)
    return module.double().eval()


def test_uniformer_local_relation_is_an_affinity_of_offsets() -> None:
    torch.manual_seed(0)
    h, w, k = 6, 7, 5
    mixer = LocalRelation(8).double()
    x = torch.randn(2, h * w, 8, dtype=torch.float64)
    weight = mixer.affinity.conv.weight
    affinity = torch.zeros(8, h * w, h * w, dtype=torch.float64)
    for i in range(h * w):
        for j in range(h * w):
            dy, dx = j // w - i // w + k // 2, j % w - i % w + k // 2
            if 0 <= dy < k and 0 <= dx < k:
                affinity[:, i, j] = weight[:, 0, dy, dx]
    mixed = torch.einsum("dij,bjd->bid", affinity, mixer.value(x)) + mixer.affinity.conv.bias
    assert_close(mixer(x, Layout(grid=(h, w))), mixer.out(mixed), atol=1e-12, rtol=1e-12)


def test_uniformer_shallow_block_moves_with_its_input_inside() -> None:
    torch.manual_seed(0)
    block = settle(Block(8, 2, LocalRelation(8), norm="batch", position="conditional"))
    x = torch.randn(1, 16, 16, 8, dtype=torch.float64)
    moved = x.roll((2, -1), (1, 2))

    def run(maps: Tensor) -> Tensor:
        return block(maps.flatten(1, 2), Layout(grid=(16, 16))).view_as(maps)

    inside = (slice(None), slice(6, 12), slice(4, 11))
    assert_close(run(moved)[inside], run(x).roll((2, -1), (1, 2))[inside], atol=1e-12, rtol=1e-12)
    assert (run(moved) - run(x).roll((2, -1), (1, 2))).abs().max() > 1e-3  # zeros beyond the edge stay put


def test_uniformer_deep_stage_is_dense_attention() -> None:
    mixers = create_model("uniformer_nano").backbone.stages[2][0].mixer
    assert isinstance(mixers, GlobalAttention)
    mixer = mixers.double()
    x = torch.randn(2, 12, 128, dtype=torch.float64)
    q, k, v = mixer.attention.qkv(x).view(2, 12, 3, 4, 32).permute(2, 0, 3, 1, 4)
    dense = ((q @ k.mT / 32**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    assert_close(mixer(x, Layout(grid=(3, 4))), mixer.attention.out(dense))


def test_uniformer_image_is_a_clip_of_one_frame() -> None:
    torch.manual_seed(0)
    image, clip = settle(create_model("uniformer_nano")), create_model("uniformer_video_nano").double().eval()
    flat = image.state_dict()
    inflated = {}
    for name, value in clip.state_dict().items():
        inflated[name] = flat[name.replace("stem.project.conv.", "stem.project.")]
        if value.ndim == 5:  # the frame in the middle of the kernel
            weight = torch.zeros_like(value)
            weight[:, :, value.shape[2] // 2] = inflated[name].reshape(*value.shape[:2], *value.shape[3:])
            inflated[name] = weight
    clip.load_state_dict(inflated)
    x = torch.randn(2, 3, 33, 40, dtype=torch.float64)
    with torch.no_grad():
        assert_close(clip(x[:, :, None]), image(x), atol=1e-10, rtol=1e-10)


def test_uniformer_video_sees_the_order_of_frames() -> None:
    torch.manual_seed(0)
    model = create_model("uniformer_video_nano").eval()
    clip = torch.randn(2, 3, 5, 33, 40)
    with torch.no_grad():
        assert model.features(clip)[-1].layout.grid == (3, 3, 3)
        assert (model(clip) - model(clip.flip(2))).abs().max() > 1e-3


# Names of mmaction2's modules, numbers as #; those of its package wherever that is installed.
THEIRS = """
    backbone.blocks#.#.attn backbone.blocks#.#.attn.proj backbone.blocks#.#.attn.qkv
    backbone.blocks#.#.conv# backbone.blocks#.#.mlp.fc# backbone.blocks#.#.norm#
    backbone.blocks#.#.pos_embed backbone.norm backbone.patch_embed#.norm backbone.patch_embed#.proj
    cls_head.fc_cls
"""


def test_uniformer_weights_go_to_mmaction2s_names_and_back(modules: Any) -> None:
    state = create_model("uniformer_video_small", depths=(1, 1, 1, 1)).state_dict()
    theirs = export_state("uniformer_video_small", state, source="mmaction2")
    assert modules(theirs) == set(THEIRS.split())
    assert theirs["backbone.blocks2.0.conv1.weight"].shape == (128, 128, 1, 1, 1)
    assert theirs["backbone.blocks4.0.mlp.fc1.weight"].shape == (2048, 512)
    back = import_state("uniformer_video_small", theirs, source="mmaction2")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_uniformer_equals_mmaction2_but_for_the_eps_of_norms(mmaction: Any, agree: Any) -> None:
    """Its blocks of attention take torch's eps of 1e-5, the authors' code and this preset 1e-6."""
    head = {"type": "I3DHead", "num_classes": 400, "in_channels": 512}
    backbone = {"type": "UniFormer", "depth": [3, 4, 8, 3]}
    peer = nn.Sequential()
    peer.add_module("backbone", mmaction.MODELS.build(backbone))
    peer.add_module("cls_head", mmaction.MODELS.build(head))
    assert {peer.backbone.blocks3[0].norm1.eps, peer.backbone.blocks4[0].norm2.eps} == {1e-5}
    options = {"block.norm": {"name": "layer", "eps": 1e-5}}
    sizes = [(16, 64, 64), (5, 64, 96)]
    agree("uniformer_video_small", peer, source="mmaction2", sizes=sizes, options=options, title="UniFormer")
