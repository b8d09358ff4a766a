import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.cascaded import CascadedGroupAttention

SMALL = [{"heads": 2, "key_dim": 4, "window": 4}]


def test_equals_its_heads_one_after_the_other() -> None:
    torch.manual_seed(0)
    mixer = CascadedGroupAttention(6, heads=2, key_dim=4, window=3, kernels=(3, 3)).double().eval()
    torch.nn.init.normal_(mixer.bias)
    x, norm = torch.randn(1, 9, 6, dtype=torch.float64), (1 + 1e-5) ** 0.5  # fresh batch norms
    place = torch.tensor([(i // 3, i % 3) for i in range(9)])
    apart = (place[:, None] - place[None]).abs()
    y, parts = torch.zeros(1, 9, 3, dtype=torch.float64), []
    for i in range(2):
        qkv = (x[..., 3 * i : 3 * i + 3] + y) @ mixer.qkv[i].conv.weight[:, :, 0, 0].T / norm
        q, k, v = qkv.split([4, 4, 3], -1)
        q = F.conv2d(q.mT.unflatten(-1, (3, 3)), mixer.near[i].conv.weight, padding=1, groups=4)
        scores = q.flatten(2).mT / norm @ k.mT / 2 + mixer.bias[i][apart[..., 0] * 3 + apart[..., 1]]
        y = scores.softmax(-1) @ v
        parts.append(y)
    want = torch.cat(parts, -1).relu() @ mixer.out.conv.weight[:, :, 0, 0].T / norm
    assert_close(mixer(x, Layout(grid=(3, 3))), want)


def test_wants_a_kernel_for_every_head() -> None:
    with pytest.raises(ValueError, match="heads must divide dim and have a kernel each, got 8, 2"):
        CascadedGroupAttention(8, heads=2, kernels=(3,))
