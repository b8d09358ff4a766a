"""Every merge keeps the promises of Merge."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.merges.base import MERGES, Merge

B, D, OUT = 2, 4, 8
SIZES = [(1, 1), (3, 5), (6, 4)]
POINTS = ("curve",)  # others join places of a raster


@pytest.fixture(params=MERGES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str) -> Merge:
    torch.manual_seed(0)
    return MERGES.create(name, D, OUT).double().eval()


def given(name: str, grid: tuple[int, int] = (3, 5), *, hidden: bool = True) -> tuple[Tensor, Layout]:
    """Tokens, of which a third is real where some are hidden."""
    draw = torch.Generator().manual_seed(1)
    n = grid[0] * grid[1]
    x, coords = (torch.randn(B, n, k, dtype=torch.float64, generator=draw) for k in (D, 3))
    mask = torch.arange(n).expand(B, -1) % 3 == 0 if hidden else None
    place = {"coords": coords} if name in POINTS else {"grid": grid}
    return x, Layout(mask=mask, **place)


def test_leaves_a_fourth_of_the_tokens_at_any_size(name: str) -> None:
    for grid in SIZES:
        x, layout = given(name, grid)
        stage = build(name)(x, layout)
        if name in POINTS:
            assert stage.tokens.shape == (B, -(-x.shape[1] // 4), OUT)
            assert stage.parent is not None
        else:
            assert stage.layout.grid == tuple(-(-size // 2) for size in grid)
            assert stage.tokens.shape == (B, torch.Size(stage.layout.grid).numel(), OUT)
        assert stage.layout.mask is not None
        assert stage.layout.mask.shape == stage.tokens.shape[:2]
        assert stage.tokens[stage.layout.mask].isfinite().all()


def test_hidden_tokens_reach_no_other(name: str) -> None:
    for grid in SIZES:
        merge, (x, layout) = build(name), given(name, grid)
        stage = merge(x, layout)
        assert layout.mask is not None
        assert stage.layout.mask is not None
        other = merge(torch.where(layout.mask[..., None], x, 9 - 3 * x.flip(-1)), layout)
        assert_close(stage.tokens[stage.layout.mask], other.tokens[stage.layout.mask])


def test_batch_rows_are_independent(name: str) -> None:
    merge, (x, layout) = build(name), given(name)
    first = {k: v[:1] for k in ("coords", "mask") if (v := getattr(layout, k)) is not None}
    assert_close(merge(x, layout).tokens[:1], merge(x[:1], layout.with_(**first)).tokens)


def test_every_parameter_gets_a_gradient(name: str) -> None:
    merge, (x, layout) = build(name), given(name, hidden=False)
    (merge(x, layout).tokens ** 3).sum().backward()  # the squares of a norm's outputs have a constant sum
    assert not [key for key, p in merge.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.compile
def test_compiles_to_one_graph_and_exports(name: str, one_graph: Any, exports: Any) -> None:
    for hidden in (False, True):
        x, layout = given(name, hidden=hidden)
        one_graph(build(name), lambda part, x, layout=layout: part(x, layout).tokens, x)
        exports(build(name), lambda part, x, layout=layout: part(x, layout).tokens, x)


def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        merge = MERGES.create(name, D, OUT)
    assert all(p.is_meta for p in merge.parameters())
