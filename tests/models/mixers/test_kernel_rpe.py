import pytest
import torch
from torch.testing import assert_close

from models.mixers.kernel_rpe import KernelRelativeAttention, orthogonal

SMALL = [{"head_dim": 16, "features": 8}]


def test_directions_are_orthogonal_and_of_gaussian_length() -> None:
    torch.manual_seed(0)
    directions = orthogonal(200, 6, 4)
    unit = torch.nn.functional.normalize(directions, dim=-1)
    assert_close(unit[:, :4] @ unit[:, :4].mT, torch.eye(4).expand(200, -1, -1), atol=1e-5, rtol=0)
    assert float(directions.square().sum(-1).mean()) == pytest.approx(4, rel=0.1)


def test_rejects_a_table_of_other_axes() -> None:
    with pytest.raises(ValueError, match=r"grid must be 2 positive sizes, got \(64,\)"):
        KernelRelativeAttention(32, axes=2)
