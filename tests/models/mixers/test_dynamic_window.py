import pytest

from models.mixers.dynamic_window import DynamicWindowAttention

SMALL = [{"group": 4, "head_dim": 8}, {"interval": 3, "head_dim": 8}]


def test_says_which_sizes_it_takes() -> None:
    with pytest.raises(ValueError, match="group and interval must be positive, got 7 and -1"):
        DynamicWindowAttention(32, interval=-1)
