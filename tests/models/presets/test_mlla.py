"""mlla: linear attention is its matrix of all pairs, a forget gate a decay; turned scores know offsets."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.mila import MambaLikeAttention
from models.ops.flops import count_flops
from models.ops.retention import parallel
from models.ops.rotary import raster_angles, turn

GRID = (5, 6)


def build() -> tuple[MambaLikeAttention, Tensor]:
    torch.manual_seed(0)
    mixer = MambaLikeAttention(16, head_dim=8).double()
    return mixer, torch.randn(2, 30, 16, dtype=torch.float64)


def test_mlla_equals_its_matrix_of_all_pairs() -> None:
    mixer, x = build()
    layout = Layout(grid=GRID)
    u = F.silu(mixer.before(mixer.inner(x), layout))
    qk = mixer.qk(u)
    q, k = F.elu(qk[..., :16]) + 1, F.elu(qk[..., 16:]) + 1
    y = torch.zeros_like(x)
    rates = 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    for i in range(30):
        weights = torch.zeros(2, 30, 2, dtype=torch.float64)  # (b, keys, heads)
        total = torch.zeros(2, 2, dtype=torch.float64)
        for j in range(30):
            offsets = torch.tensor([i // 6 - j // 6, i % 6 - j % 6], dtype=torch.float64)
            angle = (offsets[:, None] * rates).flatten()  # 8 pairs: rows, then columns
            a, b = (t.view(2, 8, 2) for t in (q[:, i], k[:, j]))
            dots, cross = (a * b).sum(-1), a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
            pairs = dots * angle.cos() + cross * angle.sin()
            weights[:, j] = pairs.view(2, 2, 4).sum(-1)
            total += dots.view(2, 2, 4).sum(-1)
        seen = torch.einsum("bjh,bjhe->bhe", weights, u.view(2, 30, 2, 8))
        y[:, i] = (seen / (total + 30 * 1e-6)[..., None]).flatten(1)
    want = mixer.out((y + mixer.local(u, layout)) * F.silu(mixer.gate(x)))
    assert_close(mixer(x, layout), want, atol=1e-11, rtol=1e-10)


def test_mlla_with_a_forget_gate_is_a_loop_over_steps() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 17, 4, dtype=torch.float64)
    gates = torch.rand(17, dtype=torch.float64)
    h = torch.zeros(4, 4, dtype=torch.float64)
    ys = []
    for i in range(17):
        h = gates[i] * h + torch.outer(k[i], v[i])
        ys.append(q[i] @ h)
    assert_close(parallel(q, k, v, gates.log()), torch.stack(ys), atol=1e-12, rtol=1e-12)


def test_mlla_turned_scores_depend_on_offsets_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 16, dtype=torch.float64)
    near, far = (raster_angles(grid, 8, q) for grid in ((4, 5), (40, 50)))
    small = (turn(q.expand(20, -1), near) @ turn(k.expand(20, -1), near).T).view(4, 5, 4, 5)
    large = (turn(q.expand(2000, -1), far)[-1]) @ turn(k.expand(2000, -1), far).T
    assert_close(
        small[3, 4], large.view(40, 50)[36:, 45:]
    )  # the last place of each raster and its neighbours


def test_mlla_costs_four_times_as_much_for_four_times_the_tokens() -> None:
    mixer, _ = build()

    def flops(side: int) -> int:
        x = torch.zeros(1, side * side, 16, dtype=torch.float64)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, Layout(grid=(side, side))))

    assert flops(32) == 4 * flops(16)
