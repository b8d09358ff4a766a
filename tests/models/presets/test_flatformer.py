"""flatformer: equal groups of points along windows."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer
from models.mixers.flat_window import FlatWindowAttention

N, GROUP = 53, 8


def cloud(n: int = N, b: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(b, n, 16, dtype=torch.float64, generator=draw)
    return x, torch.rand(b, n, 3, dtype=torch.float64, generator=draw) * 2 - 1


def mixer(**options: object) -> FlatWindowAttention:
    torch.manual_seed(0)
    made = create_mixer("flat_window", 16, group=GROUP, window=4, cells=12, head_dim=8, **options).double()
    assert isinstance(made, FlatWindowAttention)
    return made


def sorted_cells(
    flat: FlatWindowAttention, coords: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    cells = ((coords[..., :2] + 1) / 2 * flat.cells).long()
    return cells, flat.order(cells, coords, mask)


@pytest.mark.parametrize(("axis", "shifted"), [("x", False), ("x", True), ("y", False), ("y", True)])
def test_flatformer_equals_masked_dense_attention_within_groups(axis: str, shifted: bool) -> None:
    flat = mixer(axis=axis, shifted=shifted)
    x, coords = cloud()
    cells, order = sorted_cells(flat, coords)
    allowed = torch.zeros(2, N, N, dtype=torch.bool)
    for b in range(2):
        for first in range(0, N, GROUP):
            queries = order[b, first : first + GROUP]
            keys = queries if first + GROUP <= N else order[b, -GROUP:]  # the tail borrows from before
            allowed[b, queries[:, None], keys[None]] = True
    placed = x + flat.places(cells, like=x)
    q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (*flat.qk(placed).chunk(2, -1), flat.v(x)))
    scores = (q @ k.mT / 8**0.5).masked_fill(~allowed[:, None], -torch.inf)
    dense = flat.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
    assert_close(flat(x, Layout(coords=coords)), dense, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("n", [8, 9, 53, 64])
def test_flatformer_groups_are_full_and_hold_every_token(n: int) -> None:
    flat = mixer()
    _, coords = cloud(n)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[1, 3 : n - 6] = n < 16  # the second cloud of the long ones has 9 points
    members, _ = flat.groups(sorted_cells(flat, coords, mask)[1], mask)
    assert members.shape == (2, -(-n // GROUP), GROUP)
    for b in range(2):
        assert set(members[b].flatten().tolist()) == set(mask[b].nonzero().flatten().tolist())
        if mask[b].sum() >= GROUP:
            assert all(len(set(group)) == GROUP for group in members[b].tolist()), "no token twice in a group"


def test_flatformer_attends_in_one_product_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        seen.append((q.shape, attn_mask))
        return real(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    x, coords = cloud()
    mixer()(x, Layout(coords=coords, mask=torch.arange(N).expand(2, -1) < 40))
    assert seen == [((2 * 7, 2, GROUP, 8), None)]


def test_flatformer_does_not_depend_on_the_order_of_points() -> None:
    torch.manual_seed(0)
    model = create_model("flatformer_nano").double().eval()
    _, coords = cloud()
    shuffled = coords[:, torch.randperm(N)]
    assert_close(model(coords, coords=coords), model(shuffled, coords=shuffled), atol=1e-9, rtol=0)


def test_flatformer_of_four_times_the_points_costs_less_than_five_times() -> None:
    flat = create_mixer("flat_window", 16).eval()

    def flops(n: int) -> int:
        x, coords = cloud(n, b=1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            flat(x.float(), Layout(coords=coords.float()))
        return counter.get_total_flops()

    assert flops(4 * 690) < 5 * flops(690)


def test_flatformer_groups_never_mix_samples() -> None:
    flat = mixer()
    x, coords = cloud()
    x.requires_grad_()
    (grad,) = torch.autograd.grad(flat(x, Layout(coords=coords))[0].square().sum(), x)
    assert grad[0].abs().amin() > 0
    assert not grad[1].any()
