import pytest
import torch
from torch.testing import assert_close

from models.ops.scattered import blocks, scattered_linear


@pytest.mark.parametrize("size", [1, 4, 32])
def test_blocks_hold_tokens_of_one_window_in_their_order(size: int) -> None:
    window = torch.tensor([3, 0, 3, 3, 5, 0, 3, 3])
    slots, owner = blocks(window, 7, size)
    assert len(set(slots.tolist())) == len(window), "two tokens share no slot"
    assert torch.equal(owner[slots // size], window)
    assert slots[[0, 2, 3, 6, 7]].diff().gt(0).all()


def test_no_block_holds_more_than_it_must() -> None:
    slots, owner = blocks(torch.zeros(33, dtype=torch.long), 2, 16)
    assert slots.tolist() == list(range(33))
    assert len(owner) == 3 + 2


def test_half_precision_stays_near_single() -> None:
    torch.manual_seed(0)
    q, k, v = torch.rand(3, 50, 2, 8)
    window = torch.randint(3, (50,))
    assert_close(
        scattered_linear(q.bfloat16(), k.bfloat16(), v.bfloat16(), window, 3).float(),
        scattered_linear(q, k, v, window, 3),
        atol=0.03,
        rtol=0.03,
    )
