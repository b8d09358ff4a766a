import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.flat_window import FlatWindowAttention

SMALL = [
    {"group": 8, "window": 3, "cells": 12},
    {"group": 8, "window": 4, "cells": 12, "axis": "y", "shifted": True},
]


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("shifted", [False, True])
def test_walks_windows_and_cells_there_and_back(axis: str, shifted: bool) -> None:
    size, window = 8, 3
    mixer = FlatWindowAttention(16, window=window, cells=size, axis=axis, shifted=shifted)
    cells = torch.cartesian_prod(torch.arange(size), torch.arange(size))[torch.randperm(size**2)][None]
    coords = torch.cat([(cells + 0.5) / size * 2 - 1, torch.zeros(1, size**2, 1)], -1)
    shift = window // 2 if shifted else 0

    def key(cell: list[int]) -> list[int]:
        along, across = cell if axis == "x" else cell[::-1]
        (column, i), (row, j) = divmod(along + shift, window), divmod(across + shift, window)
        s = (-1) ** row
        return [row, s * column, s * i, s * (-1) ** i * j]

    got = cells[0, mixer.order(cells, coords, None)[0]].tolist()
    assert got == sorted(cells[0].tolist(), key=key)


def test_tokens_of_one_cell_follow_by_height() -> None:
    mixer = FlatWindowAttention(16, cells=2)
    height = torch.tensor([0.3, -0.5, 0.9, 0.0])
    coords = torch.stack([torch.zeros(4), torch.zeros(4), height], -1)[None]
    order = mixer.order(torch.ones(1, 4, 2, dtype=torch.long), coords, None)
    assert order[0].tolist() == height.argsort().tolist()


def test_a_cloud_of_fewer_tokens_than_a_group_repeats_them() -> None:
    mixer = FlatWindowAttention(16, group=6)
    members, home = mixer.groups(torch.tensor([[2, 0, 3, 1]]), torch.tensor([[True, False, True, True]]))
    assert members.tolist() == [[[2, 0, 3, 2, 0, 3]]]
    assert home[0, [2, 0, 3]].tolist() == [0, 1, 2]


def test_places_are_sines_of_columns_and_rows() -> None:
    cells = torch.tensor([[[3, 7]]])
    got = FlatWindowAttention(16).places(cells, like=torch.zeros(1, 1, 16))[0, 0]
    want = [
        f(torch.tensor(c / 10000 ** (k / 4)))
        for c in (3.0, 7.0)
        for k in range(4)
        for f in (torch.sin, torch.cos)
    ]
    assert_close(got, torch.stack(want))


def test_rejects_a_layout_without_coords_and_another_axis() -> None:
    with pytest.raises(ValueError, match="flat_window needs coords in the layout, got none"):
        FlatWindowAttention(16)(torch.zeros(1, 4, 16), Layout())
    with pytest.raises(ValueError, match="axis must be 'x' or 'y', got 'z'"):
        FlatWindowAttention(16, axis="z")
