"""davit: windows and channel groups in turn, against an independent implementation."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer


def test_davit_equals_timm(timm: Any, agree: Any) -> None:
    dims, depths = (32, 64, 96, 128), (1, 1, 2, 1)
    peer = timm.create_model(
        "davit_tiny", num_classes=11, embed_dims=dims, num_heads=(1, 2, 3, 4), depths=depths
    )
    small = {"num_classes": 11, "dims": dims, "depths": tuple(2 * d for d in depths)}
    # the second size needs padding in stem, windows and merges
    agree("davit_tiny", peer, source="timm", sizes=[(224, 224), (226, 250)], options=small)


def test_davit_channel_attention_does_not_know_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    mixer, x = create_mixer("channel_group", 32, group=8), torch.randn(2, 50, 32)
    order = torch.randperm(50)
    assert_close(mixer(x[:, order], Layout()), mixer(x, Layout())[:, order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("n", [3, 64, 200])
def test_davit_channel_matrix_is_as_large_as_its_group_at_every_length(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda self, *a: shapes.append(self.shape) or softmax(self, *a)
    )
    create_mixer("channel_group", 32, group=8)(torch.randn(2, n, 32), Layout())
    assert shapes == [(2, 4, 8, 8)]


def test_davit_four_times_the_tokens_cost_less_than_five_times_the_operations() -> None:
    model = create_model("davit_nano").eval()

    def flops(size: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, size, size))
        return counter.get_total_flops()

    assert flops(192) < 5 * flops(96)
