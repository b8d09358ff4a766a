import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.bi_level import BiLevelAttention

SMALL = [{"regions": 3, "topk": 2, "head_dim": 8}]


def test_padding_is_neither_seen_nor_counted() -> None:
    torch.manual_seed(0)
    mixer = BiLevelAttention(8, regions=2, topk=1, head_dim=4).double()
    x = torch.randn(1, 4 * 3, 8, dtype=torch.float64)  # 3 columns: regions of 2, the last half empty
    wider = torch.zeros(1, 4, 4, 8, dtype=torch.float64)
    wider[:, :, :3] = x.view(1, 4, 3, 8)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[:, :, 3] = False
    got = mixer(x, Layout(grid=(4, 3))).view(1, 4, 3, 8)
    want = mixer(wider.flatten(1, 2), Layout(grid=(4, 4), mask=mask.flatten(1))).view(1, 4, 4, 8)
    assert_close(got, want[:, :, :3])


def test_rejects_more_regions_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"topk must be from 1 to regions\^2 = 9, got 10"):
        BiLevelAttention(32, regions=3, topk=10)
