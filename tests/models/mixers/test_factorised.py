import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers._heads import HeadAttention
from models.mixers.factorised import FactorisedAttention


def dense(attention: HeadAttention, x: Tensor, allowed: Tensor) -> Tensor:
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf)
    return attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_equals_dense_attention_with_a_mask_of_frames_then_of_places() -> None:
    torch.manual_seed(0)
    mixer, grid = FactorisedAttention(8, head_dim=4).double(), (3, 2, 4)
    x = torch.randn(2, 24, 8, dtype=torch.float64)
    frame, place = torch.arange(24) // 8, torch.arange(24) % 8
    space = dense(mixer.space, x, frame[:, None] == frame)
    want = space + dense(mixer.time, mixer.norm(x + space), place[:, None] == place)
    assert_close(mixer(x, Layout(grid=grid)), want)
