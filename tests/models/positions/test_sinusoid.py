import torch
from torch.testing import assert_close

from models.layout import Layout
from models.positions.base import POSITIONS


def test_pairs_of_sine_and_cosine_slow_down() -> None:
    y = POSITIONS.create("sinusoid", 4, 2, first=1)(torch.zeros(1, 3, 4), Layout())
    places = torch.tensor([1.0, 2, 3])
    want = torch.stack([places.sin(), places.cos(), (places / 100).sin(), (places / 100).cos()], -1)
    assert_close(y[0], want)
