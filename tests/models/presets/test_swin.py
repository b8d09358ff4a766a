"""Swin against transformers' own, with random weights copied over."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model

RULES = [
    (r"swin\.embeddings\.patch_embeddings\.projection", "stem.project"),
    (r"swin\.embeddings\.norm", "stem.norm"),
    (r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.layernorm_before", r"backbone.stages.\1.\2.norm1"),
    (r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.layernorm_after", r"backbone.stages.\1.\2.norm2"),
    (r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.attention\.o_proj", r"backbone.stages.\1.\2.mixer.out"),
    (r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1", r"backbone.stages.\1.\2.mlp.up"),
    (r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2", r"backbone.stages.\1.\2.mlp.down"),
    (
        r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.attention\.relative_position_bias\.relative_position_bias_table",
        r"backbone.stages.\1.\2.mixer.bias",
    ),
    (r"swin\.encoder\.layers\.(\d)\.downsample\.reduction", r"backbone.merges.\1.reduce"),
    (r"swin\.encoder\.layers\.(\d)\.downsample\.norm", r"backbone.merges.\1.norm"),
    (r"swin\.layernorm", "backbone.norm"),
    (r"classifier", "head.out"),
]


def translate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("relative_position_index"):
            continue
        block = re.match(r"swin\.encoder\.layers\.(\d)\.blocks\.(\d+)\.attention\.q_proj\.(\w+)", name)
        if block:
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            ours["backbone.stages.{}.{}.mixer.qkv.{}".format(*block.groups())] = torch.cat(parts)
        elif not re.search(r"attention\.[kv]_proj", name):
            (new,) = {re.sub(rule, to, name) for rule, to in RULES if re.match(rule, name)}
            ours[new] = value.flatten(1) if value.ndim == 4 else value
    return ours


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SwinConfig(num_labels=11, drop_path_rate=0.0)
    peer = transformers.SwinForImageClassification(config).eval()
    for parameter in peer.parameters():  # biases and tables start at zero, which would hide mistakes
        nn.init.normal_(parameter, std=0.05)
    ours = create_model("swin_tiny", num_classes=11).eval()
    ours.load_state_dict(translate(peer.state_dict()))
    return ours, peer


@pytest.mark.parametrize("size", [(224, 224), (240, 250)])  # the second needs padding in every stage
def test_logits_equal_those_of_transformers(pair: tuple[nn.Module, nn.Module], size: tuple[int, int]) -> None:
    ours, peer = pair[0], copy.deepcopy(pair[1])  # the peer remembers that it once clamped its windows
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want, got = peer(pixel_values=x).logits, ours(x)
    assert want.std() > 0.01
    assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (57, 130)])
def test_takes_any_size(pair: tuple[nn.Module, nn.Module], size: tuple[int, int]) -> None:
    ours, _ = pair
    with torch.no_grad():
        stages = ours.features(torch.randn(1, 3, *size))
        assert ours(torch.randn(1, 3, *size)).isfinite().all()
    for stage, stride in zip(stages, (4, 8, 16, 32), strict=True):
        assert stage.map().shape[2:] == tuple(-(-s // stride) for s in size)
