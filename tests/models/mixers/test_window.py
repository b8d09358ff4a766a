import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.window import WindowAttention

SMALL = [
    {"window": 4, "head_dim": 8},
    {"window": 4, "head_dim": 8, "shifted": True},
]  # several windows at small sizes


def dense(mixer: WindowAttention, x: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """One n x n attention a head: token pairs in the same unrolled window, bias looked up pair by pair."""
    places = list(itertools.product(*map(range, grid)))
    window = [min(w, s) for w, s in zip(mixer.window, grid, strict=True)]
    shift = [w // 2 if mixer.shifted and s > w else 0 for w, s in zip(window, grid, strict=True)]

    def home(place: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((p - s) // w for p, s, w in zip(place, shift, window, strict=True))

    n, heads = len(places), mixer.heads
    bias = torch.full((x.shape[0], heads, n, n), -torch.inf, dtype=x.dtype)
    for i, j in itertools.product(range(n), repeat=2):
        if home(places[i]) == home(places[j]):
            row = 0
            for a, b, w in zip(places[i], places[j], mixer.window, strict=True):
                row = row * (2 * w - 1) + a - b + w - 1
            bias[:, :, i, j] = mixer.bias[row]
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None], -torch.inf)
    q, k, v = mixer.qkv(x).view(x.shape[0], n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(-1)
    return mixer.out((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "grid"),
    [(4, (8, 8)), (4, (9, 6)), (3, (7, 2)), (7, (5, 5)), ((2, 3, 2), (4, 5, 3)), ((5,), (12,))],
)
def test_equals_dense_attention_masked_to_the_window(
    window: int | tuple[int, ...], grid: tuple[int, ...], shifted: bool
) -> None:
    torch.manual_seed(0)
    mixer = WindowAttention(8, window=window, axes=len(grid), shifted=shifted, head_dim=4).double()
    x = torch.randn(2, torch.Size(grid).numel(), 8, dtype=torch.float64)
    want, got = dense(mixer, x, grid), mixer(x, Layout(grid=grid))
    assert_close(got, want)
    wanted = torch.autograd.grad(want.square().sum(), list(mixer.parameters()))
    assert_close(torch.autograd.grad(got.square().sum(), list(mixer.parameters())), wanted)


@pytest.mark.parametrize("hide_padding", [False, True])
def test_hidden_tokens_are_hidden_in_the_dense_form_too(hide_padding: bool) -> None:
    torch.manual_seed(0)
    mixer = WindowAttention(8, window=4, shifted=True, head_dim=4, hide_padding=hide_padding).double()
    x = torch.randn(2, 64, 8, dtype=torch.float64)
    mask = torch.rand(2, 64) < 0.8
    mask[:, ::7] = True
    want, got = dense(mixer, x, (8, 8), mask), mixer(x, Layout(grid=(8, 8), mask=mask))
    alone = want.isnan().any(-1)  # a query whose window is all hidden has no dense answer
    assert_close(got[mask & ~alone], want[mask & ~alone])
    assert got.isfinite().all()


def test_padding_is_seen_only_if_asked_for() -> None:
    torch.manual_seed(0)
    x, layout = torch.randn(1, 25, 8), Layout(grid=(5, 5))
    hidden = WindowAttention(8, window=4, head_dim=4)
    seen = WindowAttention(8, window=4, head_dim=4, hide_padding=False)
    seen.load_state_dict(hidden.state_dict())
    torch.nn.init.normal_(hidden.qkv.bias)
    seen.load_state_dict(hidden.state_dict())
    difference = (hidden(x, layout) - seen(x, layout)).abs().amax(-1).view(5, 5)
    assert difference[:4, :4].max() < 1e-6  # the full window has no padding
    assert difference[4:].min() > 1e-4
    assert difference[:, 4:].min() > 1e-4


def test_rejects_a_layout_without_its_grid() -> None:
    mixer, x = WindowAttention(32), torch.zeros(1, 9, 32)
    with pytest.raises(ValueError, match="window needs a grid of 2 axes in the layout, got None"):
        mixer(x, Layout())
    with pytest.raises(ValueError, match=r"got 9 tokens for a grid of \(2, 4\) = 8"):
        mixer(x, Layout(grid=(2, 4)))


def test_rejects_a_window_of_the_wrong_rank() -> None:
    with pytest.raises(ValueError, match="window must be 2 positive sizes"):
        WindowAttention(32, window=(7, 7, 7))
