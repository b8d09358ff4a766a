"""Every channel mixer keeps the promises of ChannelMixer."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models.channels.base import CHANNELS, ChannelMixer
from models.layout import Layout

B, GRID, D = 2, (5, 6), 32
N = 30


@pytest.fixture(params=CHANNELS.names())
def channel(request: pytest.FixtureRequest) -> ChannelMixer:
    torch.manual_seed(0)
    return CHANNELS.create(request.param, D).double().eval()


def tokens() -> torch.Tensor:
    return torch.randn(B, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_keeps_shape_and_rows_apart(channel: ChannelMixer) -> None:
    for grid in ((1, 1), (1, 7), GRID):
        x, layout = tokens()[:, : grid[0] * grid[1]], Layout(grid=grid)
        y = channel(x, layout)
        assert y.shape == x.shape
        assert_close(y[:1], channel(x[:1], layout))


def test_masked_tokens_reach_no_other(channel: ChannelMixer) -> None:
    x, mask = tokens(), torch.rand(B, N, generator=torch.Generator().manual_seed(3)) < 0.6
    layout = Layout(grid=GRID, mask=mask)
    other = torch.where(mask[..., None], x, 10 - 3 * x.flip(-1))
    assert_close(channel(x, layout)[mask], channel(other, layout)[mask])


def test_every_parameter_gets_a_gradient(channel: ChannelMixer) -> None:
    channel(tokens(), Layout(grid=GRID)).square().sum().backward()
    assert not [name for name, p in channel.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.compile
def test_compiles_to_one_graph_and_exports(channel: ChannelMixer, one_graph: Any, exports: Any) -> None:
    for mask in (None, torch.arange(N).expand(B, -1) < 20):
        layout = Layout(grid=GRID, mask=mask)
        one_graph(channel, lambda part, x, layout=layout: part(x, layout), tokens())
        exports(channel, lambda part, x, layout=layout: part(x, layout), tokens())


def test_builds_on_the_meta_device() -> None:
    for name in CHANNELS.names():
        with torch.device("meta"):
            channel = CHANNELS.create(name, D)
        assert all(p.is_meta for p in channel.parameters())
