import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.slide import SlideAttention

SMALL = [{"head_dim": 8}]


def test_equals_a_loop_over_places_and_shifts() -> None:
    torch.manual_seed(0)
    h, w, k, e = 5, 4, 3, 4
    mixer = SlideAttention(8, kernel=k, head_dim=e).double()
    x = torch.randn(1, h * w, 8, dtype=torch.float64)
    q, keys, values = mixer.qkv(x).view(h, w, 3, 2, e).unbind(2)
    deform = mixer.deform.weight.view(e, k * k, k, k)

    def seen(maps: torch.Tensor, y: int, x: int, shift: int) -> torch.Tensor:  # (heads, e)
        total = mixer.deform.bias.view(e, k * k)[:, shift].expand(2, e).clone()
        for dy in range(k):
            for dx in range(k):
                i, j = y + dy - k // 2, x + dx - k // 2
                if 0 <= i < h and 0 <= j < w:
                    total += maps[i, j] * (deform[:, shift, dy, dx] + (shift == dy * k + dx))
        return total

    want = torch.zeros(h, w, 2, e, dtype=torch.float64)
    for y in range(h):
        for z in range(w):
            local = [seen(keys, y, z, i) + mixer.bias[:, i : i + 1] for i in range(k * k)]
            scores = torch.stack([(q[y, z] * key).sum(-1) for key in local], -1) / e**0.5
            for i, weight in enumerate(scores.softmax(-1).unbind(-1)):
                want[y, z] += weight[:, None] * seen(values, y, z, i)
    assert_close(mixer(x, Layout(grid=(h, w))), mixer.out(want.flatten(2)).flatten(0, 1)[None])


def test_rejects_an_even_kernel() -> None:
    with pytest.raises(ValueError, match="kernel of slide attention must be odd, got 4"):
        SlideAttention(32, kernel=4)
