import torch
from torch.testing import assert_close

from models.ops.windows import merge, pad_to_multiple, partition


def test_windows_come_back_as_they_were_and_hold_neighbours() -> None:
    x = torch.arange(2 * 4 * 6 * 2 * 3).view(2, 4, 6, 2, 3)
    cut = partition(x, (2, 3, 2))
    assert cut.shape == (2, 4, 12, 3)
    assert_close(cut[:, 1], x[:, :2, 3:, :].reshape(2, 12, 3))
    assert_close(merge(cut, (2, 3, 2), (4, 6, 2)), x)


def test_padding_goes_after_the_end() -> None:
    x = torch.ones(1, 3, 4, 2)
    padded = pad_to_multiple(x, (2, 4))
    assert padded.shape == (1, 4, 4, 2)
    assert padded[:, 3].eq(0).all()
    assert padded[:, :3].eq(1).all()
