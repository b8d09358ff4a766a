"""Every mixer keeps the promises of TokenMixer, and the claims in its own Traits."""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.base import MIXERS, TokenMixer
from models.ops.flops import count_flops
from models.registry import options_of

B, D = 2, 32
GRIDS = {
    None: [(1,), (2,), (7,), (33,)],
    1: [(1,), (2,), (7,), (33,)],
    2: [(1, 1), (5, 3), (9, 16)],
    3: [(1, 1, 1), (3, 5, 2), (2, 9, 8)],
}


def small(name: str) -> list[dict[str, Any]]:
    """SMALL of the mixer's own test file: options for inputs of some 30 tokens of 32 channels."""
    path = Path(__file__).with_name(f"test_{name}.py")
    assert path.is_file(), f"mixer {name} has no test file {path.name}"
    spec = importlib.util.spec_from_file_location(f"small_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "SMALL", [{}])


CASES = [
    pytest.param((name, options), id="-".join([name, *map(str, options.values())]))
    for name in MIXERS.names()
    for options in small(name)
]


@pytest.fixture(params=CASES)
def mixer(request: pytest.FixtureRequest) -> TokenMixer:
    name, options = request.param
    return build(name, options)


def build(name: str, options: Mapping[str, Any]) -> TokenMixer:
    torch.manual_seed(0)
    return MIXERS.create(name, D, **options).double().eval()


def given(mixer: TokenMixer, grid: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Layout]:
    """Tokens, and the layout that the mixer's traits ask for."""
    draw = torch.Generator().manual_seed(seed)
    n = math.prod(grid)
    x = torch.randn(B, n, D, dtype=torch.float64, generator=draw)
    coords = torch.rand(B, n, 3, dtype=torch.float64, generator=draw) if mixer.traits.coords else None
    bands = torch.linspace(400, 1000, grid[0], dtype=torch.float64).expand(B, -1)
    return x, Layout(
        grid=grid if mixer.traits.grid_axes else None,
        coords=coords,
        wavelengths=bands if mixer.traits.wavelengths else None,
    )


def rows(layout: Layout, keep: slice) -> Layout:
    """The layout of some rows of the batch."""
    fields = {name: getattr(layout, name) for name in ("coords", "wavelengths", "mask")}
    return layout.with_(**{name: value[keep] for name, value in fields.items() if value is not None})


def some_grid(mixer: TokenMixer) -> tuple[int, ...]:
    return {None: (30,), 1: (30,), 2: (9, 7), 3: (3, 5, 4)}[mixer.traits.grid_axes]


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
    if mixer.traits.masks == "none":
        with pytest.raises(ValueError, match="mask"):
            mixer(x, layout)
        return
    other = torch.where(mask[..., None], x, x + 10)
    moved = None if layout.coords is None else torch.where(mask[..., None], layout.coords, layout.coords + 5)
    y = mixer(x, layout)
    assert_close(y[mask], mixer(other, layout.with_(coords=moved))[mask])
    assert y.isfinite().all()


def test_masking_the_end_equals_removing_it(mixer: TokenMixer) -> None:
    if mixer.traits.masks != "removes":
        pytest.skip("makes no such claim")
    grid = some_grid(mixer)
    x, layout = given(mixer, grid)
    slices = math.prod(grid[1:])
    keep = x.shape[1] - slices  # the last row or frame, so that what is left fills a grid
    mask = torch.arange(x.shape[1]).expand(B, -1) < keep
    shorter = Layout(
        grid=None if layout.grid is None else (grid[0] - 1, *grid[1:]),
        coords=None if layout.coords is None else layout.coords[:, :keep],
        wavelengths=None if layout.wavelengths is None else layout.wavelengths[:, :-1],
    )
    assert_close(mixer(x, layout.with_(mask=mask))[:, :keep], mixer(x[:, :keep], shorter))


def test_batch_rows_are_independent(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    assert_close(mixer(x, layout)[:1], mixer(x[:1], rows(layout, slice(1))))


def test_every_parameter_gets_a_gradient(mixer: TokenMixer) -> None:
    """With one of a few draws of weights: a narrow layer may always be on one side of its ReLU."""
    x, layout = given(mixer, some_grid(mixer))
    without = dict(mixer.named_parameters())
    for _ in range(4):
        mixer.zero_grad()
        mixer(x.requires_grad_(), layout).square().sum().backward()
        without = {name: p for name, p in without.items() if p.grad is None or not p.grad.any()}
        if not without:
            return
        with torch.no_grad():
            for p in mixer.parameters():
                p += torch.randn_like(p)
    assert not list(without)


def test_masked_gradients_are_finite(mixer: TokenMixer) -> None:
    if mixer.traits.masks == "none":
        pytest.skip("takes no mask")
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
    cases = [layout] if mixer.traits.masks == "none" else [layout, layout.with_(mask=mask)]
    for case in cases:
        assert_close(whole(x, case), mixer(x, case))


@pytest.mark.compile
def test_exports(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))

    class Placed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = mixer

        def forward(self, x: Tensor) -> Tensor:
            return self.mixer(x, layout)

    assert_close(torch.export.export(Placed(), (x,)).module()(x), mixer(x, layout))


def test_order_does_not_matter_if_equivariant(mixer: TokenMixer) -> None:
    if not mixer.traits.permutation_equivariant:
        pytest.skip("makes no such claim")
    x, layout = given(mixer, some_grid(mixer))
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))
    shuffled = layout.with_(coords=None if layout.coords is None else layout.coords[:, order])
    assert_close(mixer(x[:, order], shuffled), mixer(x, layout)[:, order])


def test_no_token_sees_a_later_one_if_causal(mixer: TokenMixer) -> None:
    if not mixer.traits.causal:
        pytest.skip("makes no such claim")
    x, layout = given(mixer, some_grid(mixer))
    x.requires_grad_()
    half = x.shape[1] // 2
    (grad,) = torch.autograd.grad(mixer(x, layout)[:, :half].square().sum(), x)
    assert not grad[:, half:].any()
    assert grad[:, :half].any()


def test_tokens_that_lie_nowhere_take_part_if_claimed(mixer: TokenMixer) -> None:
    x, layout = given(mixer, some_grid(mixer))
    one = torch.cat([x.mean(1, keepdim=True), x], 1).requires_grad_()
    if not mixer.traits.prefix:
        if mixer.traits.grid_axes:
            with pytest.raises(ValueError, match=r"tokens for a grid|prefix"):
                mixer(one, layout.with_(prefix=1))
        return
    y = mixer(one, layout.with_(prefix=1))
    assert y.shape == one.shape
    (grad,) = torch.autograd.grad(y[:, :1].square().sum(), one)
    assert grad[:, 1:].any(), "a class token must see the raster"


def test_packed_sequences_stay_apart_if_claimed(mixer: TokenMixer) -> None:
    if not mixer.traits.packed:
        pytest.skip("makes no such claim")
    x, layout = given(mixer, (30,))
    ends = torch.tensor([0, 11, 12, 30])
    packed = mixer(x[:1], rows(layout, slice(1)).with_(cu_seqlens=ends))
    for a, b in ((0, 11), (11, 12), (12, 30)):
        coords = None if layout.coords is None else layout.coords[:1, a:b]
        assert_close(packed[:, a:b], mixer(x[:1, a:b], Layout(coords=coords)))


def test_flops_grow_linearly_if_claimed(mixer: TokenMixer) -> None:
    if not mixer.traits.linear_time:
        pytest.skip("makes no such claim")

    def flops(times: int) -> int:
        axes = mixer.traits.grid_axes
        grid = {None: (64 * times,), 1: (64 * times,), 2: (16, 16 * times), 3: (8, 8, 8 * times)}[axes]
        x, layout = given(mixer, grid)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, layout))

    assert 1.9 * flops(1) <= flops(2) <= 2.1 * flops(1)


@pytest.mark.parametrize("name", MIXERS.names())
def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        mixer = MIXERS.create(name, D, **small(name)[0])
    assert all(p.is_meta for p in mixer.parameters())


@pytest.mark.parametrize("name", [n for n in MIXERS.names() if "head_dim" in options_of(MIXERS[n])])
def test_rejects_heads_that_do_not_divide_dim(name: str) -> None:
    with pytest.raises(ValueError, match="head_dim must divide dim, got dim=32, head_dim=7"):
        MIXERS.create(name, D, **{**small(name)[0], "head_dim": 7})
