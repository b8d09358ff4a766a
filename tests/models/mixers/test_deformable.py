import pytest

from models.mixers.deformable import DeformableAttention

SMALL = [
    {"head_dim": 8, "groups": 2, "grid": (5, 5), "kernel": 3},
    {"head_dim": 8, "stride": 2, "grid": (5, 5), "kernel": 3, "corners": False},
]


def test_rejects_groups_that_do_not_divide_the_heads() -> None:
    with pytest.raises(ValueError, match="groups must divide the heads, got 4 heads, groups=3"):
        DeformableAttention(32, head_dim=8, groups=3)
