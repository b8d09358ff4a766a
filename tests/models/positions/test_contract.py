"""Every position keeps the promises of Position."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.positions.base import POSITIONS, Position

B, D = 2, 8
CUBE = {"axes": 3, "wavelengths": True, "options": {"centres": (400.0, 700.0, 1000.0), "grid": (2, 2)}}
CLOUD = {"axes": 3, "coords": True, "options": {"cells": 4, "height": 4}}
NEEDS: dict[str, dict[str, Any]] = {
    "channel": CUBE,
    "cross_window": CLOUD,
}  # others place rasters of two axes
SIZES = {2: [(1, 1), (5, 3), (9, 16)], 3: [(1, 1, 1), (3, 5, 2)]}


@pytest.fixture(params=POSITIONS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str) -> Position:
    torch.manual_seed(0)
    needs = NEEDS.get(name, {})
    return POSITIONS.create(name, D, needs.get("axes", 2), **needs.get("options", {})).double().eval()


def given(name: str, grid: tuple[int, ...] | None = None) -> tuple[Tensor, Layout]:
    needs = NEEDS.get(name, {})
    grid = grid or SIZES[needs.get("axes", 2)][1]
    draw = torch.Generator().manual_seed(1)
    n = math.prod(grid)
    coords = torch.rand(B, n, 3, dtype=torch.float64, generator=draw) * 2 - 1
    bands = torch.linspace(400, 1000, grid[0], dtype=torch.float64).expand(B, -1)
    return torch.randn(B, n, D, dtype=torch.float64, generator=draw), Layout(
        grid=None if "coords" in needs else grid,
        coords=coords if "coords" in needs else None,
        wavelengths=bands if "wavelengths" in needs else None,
    )


def test_keeps_shape_at_odd_sizes(name: str) -> None:
    for grid in SIZES[NEEDS.get(name, {}).get("axes", 2)]:
        x, layout = given(name, grid)
        y = build(name)(x, layout)
        assert y.shape == x.shape
        assert y.isfinite().all()


def test_tells_equal_tokens_apart(name: str) -> None:
    position, (x, layout) = build(name), given(name)
    if NEEDS.get(name) is CLOUD:
        pytest.skip("tells points by their neighbours, equal ones stay equal where these are")
    y = position(x[:, :1].expand_as(x), layout)
    assert not torch.isclose(y[:, 1:], y[:, :1]).all(-1).any()


def test_masked_tokens_reach_no_other(name: str) -> None:
    position, (x, layout) = build(name), given(name)
    mask = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(3)) < 0.6
    layout = layout.with_(mask=mask)
    other = torch.where(mask[..., None], x, 10 - 3 * x.flip(-1))
    assert_close(position(x, layout)[mask], position(other, layout)[mask])


def test_batch_rows_are_independent(name: str) -> None:
    position, (x, layout) = build(name), given(name)
    first = {k: v[:1] for k in ("coords", "wavelengths") if (v := getattr(layout, k)) is not None}
    assert_close(position(x, layout)[:1], position(x[:1], layout.with_(**first)))


def test_every_parameter_gets_a_gradient(name: str) -> None:
    position, (x, layout) = build(name), given(name)
    position(x.requires_grad_(), layout).square().sum().backward()
    assert not [key for key, p in position.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.compile
def test_compiles_to_one_graph_and_exports(name: str, one_graph: Any, exports: Any) -> None:
    x, layout = given(name)
    mask = torch.arange(x.shape[1]).expand(B, -1) < x.shape[1] - 3
    for case in (layout, layout.with_(mask=mask)):
        one_graph(build(name), lambda part, x, case=case: part(x, case), x)
        exports(build(name), lambda part, x, case=case: part(x, case), x)


def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        needs = NEEDS.get(name, {})
        position = POSITIONS.create(name, D, needs.get("axes", 2), **needs.get("options", {}))
    assert all(p.is_meta for p in position.parameters())
