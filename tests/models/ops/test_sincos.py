import math

import pytest
import torch
from torch.testing import assert_close

from models.ops.sincos import plane_waves, waves


def test_waves_are_sines_then_cosines_of_falling_frequencies() -> None:
    got = waves(torch.tensor([3.0]), 4)[0]
    want = [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
    assert got.tolist() == pytest.approx(want, abs=1e-6)


def test_plane_waves_hold_the_column_first_and_run_row_by_row() -> None:
    got = plane_waves(2, 3, 8, step=10.0, device=torch.device("cpu"))
    assert_close(got[5], torch.cat([waves(torch.tensor(20.0), 4), waves(torch.tensor(10.0), 4)]))
