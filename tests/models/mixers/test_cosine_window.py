import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.cosine_window import CosineWindowAttention

SMALL = [{"window": 4, "head_dim": 8}, {"window": 4, "head_dim": 8, "shifted": True}]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(8, 8), (9, 6), (3, 5)])
def test_equals_dense_attention_pair_by_pair(grid: tuple[int, int], shifted: bool) -> None:
    torch.manual_seed(0)
    mixer = CosineWindowAttention(8, window=4, head_dim=4, shifted=shifted).double()
    torch.nn.init.normal_(mixer.q_bias)
    torch.nn.init.normal_(mixer.v_bias)
    places = list(itertools.product(*map(range, grid)))
    x = torch.randn(1, len(places), 8, dtype=torch.float64)
    q, k, v = F.linear(x[0], mixer.qkv.weight).view(-1, 3, 2, 4).permute(1, 2, 0, 3)
    q, v = q + mixer.q_bias.view(2, 1, 4), v + mixer.v_bias.view(2, 1, 4)
    shift = [2 if shifted and size > 4 else 0 for size in grid]
    scores = torch.full((2, len(places), len(places)), -torch.inf, dtype=torch.float64)
    for (i, p), (j, r) in itertools.product(enumerate(places), repeat=2):
        if any((a - s) // 4 != (b - s) // 4 for a, b, s in zip(p, r, shift, strict=True)):
            continue
        d = [8 * (a - b) / max(min(4, n) - 1, 1) for a, b, n in zip(p, r, grid, strict=True)]
        g = torch.tensor([math.copysign(math.log2(1 + abs(t)) / 3, t) for t in d], dtype=torch.float64)
        cosine = F.cosine_similarity(q[:, i], k[:, j], dim=-1)
        scores[:, i, j] = 10 * cosine + 16 * mixer.distance(g).sigmoid()
    want = mixer.out((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    assert_close(mixer(x, Layout(grid=grid))[0], want)
