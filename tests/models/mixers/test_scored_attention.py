import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.scored_attention import ScoredAttention

SMALL = [{"head_dim": 16}, {"head_dim": 16, "scores": ("rotary",)}]


def drawn(mixer: ScoredAttention) -> ScoredAttention:
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return mixer


@pytest.mark.parametrize("prefix", [0, 2])
def test_equals_the_formula_pair_by_pair(prefix: int) -> None:
    torch.manual_seed(0)
    grid, n = (2, 3), 6 + prefix
    scores = ({"name": "relative", "grid": (2, 2)}, {"name": "toeplitz", "grid": (4, 4)})
    mixer = drawn(ScoredAttention(8, head_dim=4, axes=2, scores=scores).double())
    x = torch.randn(2, n, 8, dtype=torch.float64)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in mixer.qkv(x).chunk(3, -1))
    bias, gain = torch.zeros(2, n, n, dtype=torch.float64), torch.ones(2, n, n, dtype=torch.float64)

    def number(score: int, size: int, i: int, j: int) -> Tensor:
        rows, columns = i // 3 - j // 3, i % 3 - j % 3
        rows, columns = (max(1 - size, min(size - 1, o)) + size - 1 for o in (rows, columns))
        return mixer.scores[score].table.weight[rows * (2 * size - 1) + columns]

    for i in range(6):
        for j in range(6):
            bias[:, i + prefix, j + prefix] = number(0, 2, i, j)
            gain[:, i + prefix, j + prefix] = number(1, 4, i, j)
    attention = (q @ k.mT / 2 + bias).softmax(-1) * gain
    want = mixer.out((attention @ v).transpose(1, 2).flatten(-2))
    assert_close(mixer(x, Layout(grid=grid, prefix=prefix)), want)


def test_rotary_scores_depend_on_offsets_alone() -> None:
    torch.manual_seed(0)
    mixer = ScoredAttention(16, head_dim=16, axes=2, scores=("rotary",)).double()
    one = torch.randn(1, 1, 1, 16, dtype=torch.float64).expand(-1, -1, 12, -1)
    q, k = mixer.scores[0].turn(one, one, Layout(grid=(3, 4)))
    products = (q @ k.mT)[0, 0].view(3, 4, 3, 4)
    assert_close(products[0, 0, 1, 2], products[1, 1, 2, 3])
    assert_close(products[2, 3, 1, 0], products[1, 3, 0, 0])
    assert (products[0, 0, 1, 2] - products[0, 0, 2, 1]).abs() > 1e-3
