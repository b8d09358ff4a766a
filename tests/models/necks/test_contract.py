"""Every neck keeps the promises of Neck."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout, Stage
from models.necks.base import NECKS, Neck

B, D = 2, 8
GRIDS = [(1, 1), (3, 5), (2, 3, 2)]


@pytest.fixture(params=NECKS.names())
def neck(request: pytest.FixtureRequest) -> Neck:
    torch.manual_seed(0)
    return NECKS.create(request.param, (D,), width=6).double().eval()


def given(grid: tuple[int, ...] = (3, 5), mask: Tensor | None = None) -> tuple[Tensor, Layout]:
    x = torch.randn(
        B, torch.Size(grid).numel(), D, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return x, Layout(grid=grid, mask=mask)


def some_mask(grid: tuple[int, ...] = (3, 5)) -> Tensor:
    return torch.rand(B, torch.Size(grid).numel(), generator=torch.Generator().manual_seed(3)) < 0.5


def test_gives_strides_that_double_from_the_finest(neck: Neck) -> None:
    for grid in GRIDS:
        x, layout = given(grid, some_mask(grid))
        stages = neck([Stage(x, layout)])
        finest = [size * neck.finer for size in grid[-2:]]
        for i, (stage, dim) in enumerate(zip(stages, neck.dims, strict=True)):
            want = (*grid[:-2], *(-(-size // 2**i) for size in finest))
            assert stage.layout.grid == want
            assert stage.tokens.shape == (B, torch.Size(want).numel(), dim)
            assert stage.tokens.isfinite().all()
            assert stage.layout.mask is not None
            assert stage.layout.mask.shape == stage.tokens.shape[:2]


def test_hidden_tokens_reach_no_other(neck: Neck) -> None:
    for grid in GRIDS:
        x, layout = given(grid, some_mask(grid))
        assert layout.mask is not None
        other = torch.where(layout.mask[..., None], x, 10 - 3 * x.flip(-1))
        for a, b in zip(neck([Stage(x, layout)]), neck([Stage(other, layout)]), strict=True):
            assert_close(a.tokens[a.layout.mask], b.tokens[a.layout.mask])


def test_rows_and_frames_are_independent(neck: Neck) -> None:
    x, layout = given((2, 3, 2))
    for whole, one, frame in zip(
        neck([Stage(x, layout)]),
        neck([Stage(x[:1], layout)]),
        neck([Stage(x[:, 6:], Layout(grid=(3, 2)))]),
        strict=True,
    ):
        assert_close(whole.tokens[:1], one.tokens)
        assert_close(whole.tokens.unflatten(1, (2, -1))[:, 1], frame.tokens)


def test_every_parameter_gets_a_gradient(neck: Neck) -> None:
    sum((stage.tokens**3).sum() for stage in neck([Stage(*given())])).backward()
    assert not [key for key, p in neck.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.compile
def test_compiles_to_one_graph_and_exports(neck: Neck, one_graph: Any, exports: Any) -> None:
    for mask in (None, some_mask()):
        x, layout = given(mask=mask)

        def maps(neck: Neck, x: Tensor, layout: Layout = layout) -> list[Tensor]:
            return [stage.tokens for stage in neck([Stage(x, layout)])]

        one_graph(neck, maps, x)
        exports(neck, maps, x)


def test_builds_on_the_meta_device() -> None:
    for name in NECKS.names():
        with torch.device("meta"):
            assert all(p.is_meta for p in NECKS.create(name, (D,)).parameters())
