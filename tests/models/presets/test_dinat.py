"""dinat: dilated neighbourhoods equal interleaved plain ones, and reach as far as told."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers import create_mixer
from models.mixers.neighbourhood import NeighbourhoodAttention


def nearest(length: int, size: int, dilation: int) -> Tensor:
    """(length, size): for every place the nearest keys of its own residue, by search."""
    found = []
    for place in range(length):
        keys = sorted(range(place % dilation, length, dilation), key=lambda key: (abs(key - place), key))
        found.append(sorted(keys[:size]))
    return torch.tensor(found)


def gather(x: Tensor, size: int, dilation: int) -> Tensor:
    """(b, h, y, x, e) -> (b, h, y, x, size * size, e)."""
    rows, columns = (nearest(n, size, dilation) for n in x.shape[2:4])
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)


def scores(q: Tensor, k: Tensor, rpb: Tensor, size: int, dilation: int) -> Tensor:
    """What the removed kernel gave: q . k + bias over each neighbourhood; the caller swapped two axes."""
    q, k = (t.transpose(1, 2).permute(0, 3, 1, 2, 4) for t in (q, k))
    rows, columns = (
        (nearest(n, size, dilation) - torch.arange(n)[:, None]) // dilation + size - 1 for n in q.shape[2:4]
    )
    bias = rpb[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(-2)
    return torch.einsum("bhyxe,bhyxme->bhyxm", q, gather(k, size, dilation)) + bias


def values(weights: Tensor, v: Tensor, size: int, dilation: int) -> Tensor:
    v = v.transpose(1, 2).permute(0, 3, 1, 2, 4)
    return torch.einsum("bhyxm,bhyxme->bhyxe", weights, gather(v, size, dilation))


def test_dinat_equals_transformers(transformers: Any, agree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # the two kernels that it calls are gone from their library: here they are written out
    modelling = importlib.import_module("transformers.models.dinat.modeling_dinat")
    monkeypatch.setattr(modelling, "requires_backends", lambda *_: None)
    monkeypatch.setattr(modelling, "natten2dqkrpb", scores)
    monkeypatch.setattr(modelling, "natten2dav", values)
    depths, dims = [3, 2, 2, 1], (32, 64, 128, 256)
    config = transformers.DinatConfig(
        num_labels=11, depths=depths, embed_dim=32, num_heads=[1, 2, 4, 8], kernel_size=3, drop_path_rate=0.0,
        dilations=[[1, 8, 1], [1, 4], [1, 2], [1]],
    )  # fmt: skip
    options = {"num_classes": 11, "depths": depths, "dims": dims, "window": 3}
    agree(
        "dinat_mini",
        transformers.DinatForImageClassification(config),
        source="transformers",
        sizes=[(96, 96), (97, 131)],  # 25 x 33 places: no multiple of 8
        options=options,
    )


@pytest.mark.parametrize("dilation", [2, 3])
def test_dinat_dilation_is_plain_neighbourhoods_of_interleaved_rasters(dilation: int) -> None:
    torch.manual_seed(0)
    far = NeighbourhoodAttention(8, window=3, dilation=dilation, head_dim=4).double()
    near = NeighbourhoodAttention(8, window=3, head_dim=4).double()
    near.load_state_dict(far.state_dict())
    x = torch.randn(2, 13, 10, 8, dtype=torch.float64)  # 13 divides by neither
    y = far(x.flatten(1, 2), Layout(grid=(13, 10))).view_as(x)
    for i in range(dilation):
        for j in range(dilation):
            part = x[:, i::dilation, j::dilation]
            alone = near(part.flatten(1, 2), Layout(grid=tuple(part.shape[1:3]))).view_as(part)
            assert_close(y[:, i::dilation, j::dilation], alone, atol=1e-12, rtol=1e-12)


def test_dinat_layers_reach_as_far_as_the_closed_form_says() -> None:
    torch.manual_seed(0)
    dilations, size, side = (1, 4, 1), 3, 31
    layers = [create_mixer("neighbourhood", dim=8, window=size, dilation=d, head_dim=8) for d in dilations]
    x = torch.randn(1, side * side, 8, requires_grad=True)
    y = x
    for layer in layers:
        y = y + layer(y, Layout(grid=(side, side)))
    (grad,) = torch.autograd.grad(y.view(side, side, 8)[15, 15].sum(), x)
    seen = grad.abs().sum(-1).view(side, side) > 0
    reach = 1 + sum((size - 1) * d for d in dilations)
    assert seen.any(0).sum() == reach
    assert seen.any(1).sum() == reach
