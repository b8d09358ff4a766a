import pytest
import torch

from models.layout import Layout
from models.positions.channel import ChannelPosition


def test_bands_are_found_by_the_nearest_centre() -> None:
    position = ChannelPosition(8, 3, centres=(443.0, 560.0, 665.0), grid=(2, 2))
    got = position.nearest(torch.tensor([[660.0, 450.0], [100.0, 571.0]]))
    assert got.tolist() == [[2, 0], [0, 1]]


def test_rejects_what_it_cannot_place() -> None:
    with pytest.raises(ValueError, match="three axes, got 2"):
        ChannelPosition(8, 2, centres=(1.0,))
    with pytest.raises(ValueError, match="centres of the bands, got none"):
        ChannelPosition(8, 3, centres=())
    with pytest.raises(ValueError, match="need wavelengths in the layout, got none"):
        ChannelPosition(8, 3, centres=(1.0,))(torch.zeros(1, 4, 8), Layout(grid=(1, 2, 2)))
