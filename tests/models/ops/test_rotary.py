import pytest
import torch
from torch.testing import assert_close

from models.ops.rotary import raster_angles, turn


def test_scores_on_a_raster_depend_on_offsets_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 12, dtype=torch.float64)
    angles = raster_angles((5, 7), 6, q)
    scores = turn(q.expand(35, -1), angles) @ turn(k.expand(35, -1), angles).T
    scores = scores.view(5, 7, 5, 7)
    for dy, dx in ((0, 1), (2, 0), (1, -2)):
        seen = [
            scores[y, x, y + dy, x + dx] for y in range(5 - dy) for x in range(max(0, -dx), 7 - max(0, dx))
        ]
        assert_close(torch.stack(seen), seen[0].expand(len(seen)))
    assert (scores[0, 0, 0, 1] - scores[0, 0, 1, 0]).abs() > 1e-3, "both axes must count, and differently"


def test_turning_keeps_lengths() -> None:
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    assert_close(turn(x, raster_angles((2, 2), 4, x)).norm(dim=-1), x.norm(dim=-1))


def test_rejects_pairs_that_do_not_divide_among_the_axes() -> None:
    with pytest.raises(ValueError, match="channel pairs must be a multiple of the 3 axes, got 4"):
        raster_angles((2, 2, 2), 4, torch.zeros(1))
