"""t2t_vit: soft splits with attention between them."""

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models import create_model
from models.imports import export_state, import_state
from models.layers.narrowing import Narrowing
from models.stems.base import STEMS, Side


def given(attention: str = "performer") -> Any:
    torch.manual_seed(0)
    return STEMS.create("tokens_to_token", 3, 16, width=8, attention=attention).double().eval()


def test_t2t_vit_has_56_then_28_then_14_tokens_a_side_for_224_pixels() -> None:
    stem, seen = given(), []
    for layer in stem.layers:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1:]))
    with torch.no_grad():
        tokens, layout = stem(torch.zeros(1, 3, 224, 224, dtype=torch.float64), Side())
    assert seen == [(56 * 56, 3 * 49), (28 * 28, 8 * 9)]
    assert layout.grid == (14, 14)
    assert tokens.shape == (1, 196, 16)


@pytest.mark.parametrize("attention", ["performer", "transformer"])
def test_t2t_vit_tokens_equal_torchs_unfold_and_plain_attention(attention: str) -> None:
    stem, x = given(attention), torch.randn(2, 3, 32, 48, dtype=torch.float64)
    y = x
    for layer, (kernel, stride, pad) in zip(stem.layers, ((7, 4, 2), (3, 2, 1)), strict=True):
        h, w = -(-y.shape[2] // stride), -(-y.shape[3] // stride)
        t = F.layer_norm(F.unfold(y, kernel, stride=stride, padding=pad).mT, (y.shape[1] * kernel**2,))
        q, k, v = layer.qkv(t).chunk(3, -1)
        if attention == "transformer":
            matrix = (q @ k.mT / t.shape[-1] ** 0.5).softmax(-1)
        else:  # the kernel written out: a sum over features for each pair of tokens
            a, b = (
                torch.exp(z @ layer.features.T - z.square().sum(-1, keepdim=True) / 2) / 2 for z in (q, k)
            )
            matrix = a @ b.mT / ((a @ b.mT).sum(-1, keepdim=True) + 1e-8)
        z = v + layer.out(matrix @ v)
        z = z + layer.down(F.gelu(layer.up(F.layer_norm(z, (8,)))))
        y = z.mT.unflatten(-1, (h, w))
    want = stem.project(F.unfold(y, 3, stride=2, padding=1).mT)
    assert_close(stem(x, Side())[0], want)


def test_t2t_vit_performer_nears_the_softmax_with_more_features() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 20, 8, dtype=torch.float64) / 4 for _ in range(3))
    exact = (q @ k.mT).softmax(-1) @ v
    errors = []
    for features in (8, 4096):
        layer = Narrowing(8, 8, features=features).double()
        errors.append((layer._mix(q, k, v, None) - exact).abs().max())
    assert errors[1] < errors[0] / 5
    assert errors[1] < 0.02


def test_t2t_vit_splits_come_apart_without_loss_and_share_their_pixels() -> None:
    x = torch.randn(1, 3, 32, 32)
    patches, ones = (F.unfold(t, 7, stride=4, padding=2) for t in (x, torch.ones_like(x)))
    back, seen = (F.fold(t, (32, 32), 7, stride=4, padding=2) for t in (patches, ones))
    assert_close(back / seen, x)
    stem = given()
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    reach = torch.zeros(32, 32)
    for token in range(4):
        pixels = image.clone().requires_grad_()
        (grad,) = torch.autograd.grad(stem(pixels, Side())[0][0, token].square().sum(), pixels)
        reach += (grad[0].abs().sum(0) > 0).float()
    assert (reach > 1).all()


@pytest.mark.parametrize("source", ["authors", "released"])
def test_t2t_vit_weights_go_to_the_authors_names_and_back(source: str) -> None:
    state = create_model("t2t_vit_14", depth=1).state_dict()
    theirs = export_state("t2t_vit_14", state, source=source)
    back = import_state("t2t_vit_14", theirs, source=source)
    assert back.keys() == state.keys()
    for key in state:
        assert_close(back[key], state[key], atol=1e-6, rtol=1e-6)
    assert torch.equal(theirs["cls_token"][0, 0, ::2], state["backbone.cls"][0, 0, ::2])
    scale = (
        theirs["blocks.0.attn.qkv.weight"][:384] / state["backbone.blocks.0.mixer.attention.qkv.weight"][:384]
    )
    assert_close(scale.mean(), torch.tensor(1.0 if source == "authors" else 6**0.5), atol=1e-4, rtol=0)


# Names of mmpretrain's modules, numbers as #; those of its package wherever that is installed.
THEIRS = """
    backbone backbone.encoder.#.attn.proj backbone.encoder.#.attn.qkv backbone.encoder.#.ffn.layers.#
    backbone.encoder.#.ffn.layers.#.# backbone.encoder.#.ln# backbone.norm
    backbone.tokens_to_token.attention#.attn.proj backbone.tokens_to_token.attention#.attn.qkv
    backbone.tokens_to_token.attention#.ffn.layers.# backbone.tokens_to_token.attention#.ffn.layers.#.#
    backbone.tokens_to_token.attention#.ln# backbone.tokens_to_token.project head.layers.head
"""


def test_t2t_vit_weights_go_to_mmpretrains_names_and_back(modules: Any) -> None:
    state = create_model("t2t_vit_t_14", depth=1).state_dict()
    theirs = export_state("t2t_vit_t_14", state, source="mmpretrain")
    assert modules(theirs) == set(THEIRS.split())
    assert theirs["backbone.tokens_to_token.attention2.attn.qkv.weight"].shape == (3 * 64, 9 * 64)
    assert theirs["backbone.encoder.0.ffn.layers.0.0.weight"].shape == (3 * 384, 384)
    back = import_state("t2t_vit_t_14", theirs, source="mmpretrain")
    assert back.keys() == state.keys()
    for key in state:
        assert_close(back[key], state[key], atol=1e-6, rtol=0)


def test_t2t_vit_equals_mmpretrain_once_its_scores_are_scaled_right(mmpretrain: Any, agree: Any) -> None:
    """mmpretrain divides scores by 1 / sqrt(64) and so makes them 64 times too large; it also takes a head's
    width in the narrow layers, whose scale its own text, the authors' code and ours take of the wide tokens.
    """
    backbone = {"type": "T2T_ViT", "img_size": 96}  # on other rasters it stretches its positions
    head = {"type": "VisionTransformerClsHead", "num_classes": 1000, "in_channels": 384}
    peer = mmpretrain.build_classifier({"type": "ImageClassifier", "backbone": backbone, "head": head})
    arguments: dict[str, Any] = {
        "source": "mmpretrain",
        "sizes": [(96, 96)],
        "title": "T2T_ViT, scaled right",
    }
    arguments |= {"fixed": ["backbone.pos_embed"], "std": 0.1}
    with pytest.raises(AssertionError, match="Mismatched"):
        agree("t2t_vit_t_14", peer, **arguments)
    layers = [m for m in peer.modules() if hasattr(m, "scaled_dot_product_attention")]
    assert len(layers) == 2 + 14
    for layer in layers:
        mix = layer.scaled_dot_product_attention
        assert mix.keywords == {"scale": 64**-0.5}  # what it divides by
        divisor = (layer.input_dims // layer.num_heads) ** 0.5
        layer.scaled_dot_product_attention = functools.partial(mix.func, scale=divisor)
    agree("t2t_vit_t_14", peer, **arguments)
