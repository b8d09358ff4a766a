"""swinv2: cosine scores and log distances, against two independent implementations."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import models.mixers.cosine_window as cosine_window
from models import create_model
from models.layout import Layout
from models.mixers import create_mixer

DEPTHS = (2, 2, 2, 2)


def test_swinv2_equals_transformers(transformers: Any, agree: Any) -> None:
    config = transformers.Swinv2Config(
        num_labels=11,
        image_size=256,
        window_size=8,
        embed_dim=32,
        depths=list(DEPTHS),
        num_heads=[1, 2, 4, 8],
    )
    peer = transformers.Swinv2ForImageClassification(config)
    small = {"num_classes": 11, "dims": (32, 64, 128, 256), "depths": DEPTHS}
    # the second size needs padding in every stage but the last
    agree("swinv2_tiny", peer, source="transformers", sizes=[(256, 256), (240, 250)], options=small)


def test_swinv2_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("swinv2_tiny_window8_256", num_classes=11, img_size=128)
    agree("swinv2_tiny", peer, source="timm", sizes=[(128, 128)], options={"num_classes": 11})


def given(**options: Any) -> Any:
    torch.manual_seed(0)
    mixer = create_mixer("cosine_window", 32, head_dim=16, **options).double()
    torch.nn.init.normal_(mixer.q_bias)
    return mixer


def scores(mixer: Any, x: Tensor, grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """All that goes into the softmax: q k plus the bias of every offset, for the first window."""
    seen = {}

    def spy(q: Tensor, k: Tensor, v: Tensor, table: Tensor, windows: Any, **rest: Any) -> Tensor:
        seen.update(q=q, k=k, table=table, scale=rest["scale"])
        return v

    monkeypatch.setattr(cosine_window, "local_attention", spy)
    mixer(x, Layout(grid=grid))
    q, k = (seen[name].flatten(1, 2).transpose(1, 2) for name in "qk")
    assert seen["scale"] == 1
    return (q @ k.mT)[..., None] + seen["table"].T[None, :, None, None]


@pytest.mark.parametrize("which", ["q", "k"])
def test_swinv2_scores_do_not_change_when_queries_or_keys_are_scaled(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, mixer = torch.randn(1, 16, 32, dtype=torch.float64), given(window=4)
    before = scores(mixer, x, (4, 4), monkeypatch)
    with torch.no_grad():
        part = 0 if which == "q" else 1
        mixer.qkv.weight[32 * part : 32 * part + 32] *= 7.5
        if which == "q":
            mixer.q_bias *= 7.5
    assert_close(scores(mixer, x, (4, 4), monkeypatch), before)


def test_swinv2_scores_stay_within_116(monkeypatch: pytest.MonkeyPatch) -> None:
    x, mixer = 1e3 * torch.randn(1, 16, 32, dtype=torch.float64), given(window=4)
    with torch.no_grad():
        mixer.log_scale.fill_(50)  # tau far below 0.01
        mixer.distance[2].weight.fill_(100)
        mixer.qkv.weight[32:64] = mixer.qkv.weight[:32]  # keys are queries: cosines of one
        mixer.q_bias.zero_()
    worst = scores(mixer, x, (4, 4), monkeypatch).detach().abs().max()
    assert worst == pytest.approx(116, abs=1e-6)


def test_swinv2_changes_its_window_without_new_parameters() -> None:
    eight, sixteen = (create_model("swinv2_tiny", window=w) for w in (8, 16))
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (eight, sixteen)]
    assert shapes[0] == shapes[1]


def test_swinv2_measures_distances_by_the_window_it_was_trained_with() -> None:
    small, large = given(window=8), given(window=16, trained=8)
    middle = large._table((32, 32)).view(31, 31, -1)[8:23, 8:23]
    assert_close(small._table((32, 32)).view(15, 15, -1), middle)
