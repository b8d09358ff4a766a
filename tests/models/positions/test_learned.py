import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.positions.base import POSITIONS


def test_adds_its_table_and_interpolates_it_on_other_rasters() -> None:
    position = POSITIONS.create("learned", 8, 2, grid=(4, 6))
    with torch.no_grad():  # a plane stays a plane
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
        position.table.copy_((rows + 10 * columns).flatten()[None, :, None].expand(1, -1, 8))
    zeros = torch.zeros(2, 24, 8)
    assert torch.equal(position(zeros, Layout(grid=(4, 6)))[1], position.table[0])
    twice = position(torch.zeros(2, 96, 8), Layout(grid=(8, 12)))[0, :, 0].view(8, 12)
    inner = twice[3:5, 4:8]
    assert_close(inner.diff(dim=0), torch.full((1, 4), 0.5), atol=0.05, rtol=0)
    assert_close(inner.diff(dim=1), torch.full((2, 3), 5.0), atol=0.05, rtol=0)


@pytest.mark.parametrize(("grid", "other"), [((5,), (9,)), ((3, 4, 5), (2, 3, 4))])
def test_takes_rasters_of_one_and_three_axes(grid: tuple[int, ...], other: tuple[int, ...]) -> None:
    position = POSITIONS.create("learned", 8, len(grid), grid=grid)
    assert position.rows(other).shape == (1, torch.Size(other).numel(), 8)


def test_rejects_a_grid_of_other_axes() -> None:
    with pytest.raises(ValueError, match="grid must be 3 positive sizes, got \\(14, 14\\)"):
        POSITIONS.create("learned", 8, 3)
