"""Every mixer keeps the promises of TokenMixer, and the claims in its own Traits."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.layout import Layout
from models.mixers.base import MIXERS, TokenMixer

B, D = 2, 32
GRIDS = {None: [(1,), (2,), (7,), (33,)], 2: [(1, 1), (5, 3), (9, 16)], 3: [(1, 1, 1), (3, 5, 2), (2, 9, 8)]}
SMALL = {"window": {"window": 4, "head_dim": 8}, "serialised": {"group": 8}}  # several windows at small sizes


@pytest.fixture(params=MIXERS.names())
def mixer(request: pytest.FixtureRequest) -> TokenMixer:
    return build(request.param)


def build(name: str) -> TokenMixer:
    torch.manual_seed(0)
    return MIXERS.create(name, D, **SMALL.get(name, {})).double().eval()


def given(mixer: TokenMixer, grid: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Layout]:
    """Tokens, and the layout that the mixer's traits ask for."""
    draw = torch.Generator().manual_seed(seed)
    n = math.prod(grid)
    x = torch.randn(B, n, D, dtype=torch.float64, generator=draw)
    coords = torch.rand(B, n, 3, dtype=torch.float64, generator=draw) if mixer.traits.coords else None
    return x, Layout(grid=grid if mixer.traits.grid_axes else None, coords=coords)


def some_grid(mixer: TokenMixer) -> tuple[int, ...]:
    return {None: (30,), 2: (9, 7), 3: (3, 5, 4)}[mixer.traits.grid_axes]


def test_keeps_shape_at_odd_sizes(mixer: TokenMixer) -> None:
    for grid in GRIDS[mixer.traits.grid_axes]:
        x, layout = given(mixer, grid)
        y = mixer(x, layout)
        assert y.shape == x.shape
        assert y.isfinite().all()


def test_masked_tokens_reach_no_other(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    mask = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(3)) < 0.6
    mask[1, :] = False  # a row that is all padding must stay finite
    mask[1, 0] = True
    layout = layout.with_(mask=mask)
    other = torch.where(mask[..., None], x, x + 10)
    moved = None if layout.coords is None else torch.where(mask[..., None], layout.coords, layout.coords + 5)
    y = mixer(x, layout)
    assert_close(y[mask], mixer(other, layout.with_(coords=moved))[mask])
    assert y.isfinite().all()


def test_masking_the_end_equals_removing_it(mixer: TokenMixer) -> None:
    grid = some_grid(mixer)
    x, layout = given(mixer, grid)
    slices = math.prod(grid[1:])
    keep = x.shape[1] - slices  # the last row or frame, so that what is left fills a grid
    mask = torch.arange(x.shape[1]).expand(B, -1) < keep
    shorter = Layout(
        grid=None if layout.grid is None else (grid[0] - 1, *grid[1:]),
        coords=None if layout.coords is None else layout.coords[:, :keep],
    )
    assert_close(mixer(x, layout.with_(mask=mask))[:, :keep], mixer(x[:, :keep], shorter))


def test_batch_rows_are_independent(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    first = layout.with_(coords=None if layout.coords is None else layout.coords[:1])
    assert_close(mixer(x, layout)[:1], mixer(x[:1], first))


def test_every_parameter_gets_a_gradient(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    mixer(x, layout).square().sum().backward()
    assert not [name for name, p in mixer.named_parameters() if p.grad is None or not p.grad.any()]


def test_masked_gradients_are_finite(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    x.requires_grad_()
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    mask[:, 0] = True
    mixer(x, layout.with_(mask=mask)).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.compile
def test_compiles_to_one_graph(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    mask = torch.arange(x.shape[1]).expand(B, -1) < x.shape[1] - 3
    whole = torch.compile(mixer, backend="eager", fullgraph=True)
    for case in (layout, layout.with_(mask=mask)):
        assert_close(whole(x, case), mixer(x, case))


def test_order_does_not_matter_if_equivariant(mixer: TokenMixer) -> None:
    if not mixer.traits.permutation_equivariant:
        pytest.skip("makes no such claim")
    x, layout = given(mixer, some_grid(mixer))
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))
    shuffled = layout.with_(coords=None if layout.coords is None else layout.coords[:, order])
    assert_close(mixer(x[:, order], shuffled), mixer(x, layout)[:, order])


def test_flops_grow_linearly_if_claimed(mixer: TokenMixer) -> None:
    if not mixer.traits.linear_time:
        pytest.skip("makes no such claim")

    def flops(times: int) -> int:
        grid = {None: (64 * times,), 2: (16, 16 * times), 3: (8, 8, 8 * times)}[mixer.traits.grid_axes]
        x, layout = given(mixer, grid)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            mixer(x, layout)
        return counter.get_total_flops()

    assert 1.9 * flops(1) <= flops(2) <= 2.1 * flops(1)


def test_builds_on_the_meta_device() -> None:
    for name in MIXERS.names():
        with torch.device("meta"):
            mixer = MIXERS.create(name, D, **SMALL.get(name, {}))
        assert all(p.is_meta for p in mixer.parameters())


@pytest.mark.parametrize("name", MIXERS.names())
def test_rejects_heads_that_do_not_divide_dim(name: str) -> None:
    with pytest.raises(ValueError, match="head_dim must divide dim, got dim=32, head_dim=7"):
        MIXERS.create(name, D, head_dim=7)
