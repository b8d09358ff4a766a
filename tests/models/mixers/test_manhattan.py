import pytest

from models.mixers.manhattan import ManhattanAttention

SMALL = [{"head_dim": 8}, {"head_dim": 8, "decomposed": True}]


def test_rejects_heads_that_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="head_dim must be even to turn its channels, got 3"):
        ManhattanAttention(6, head_dim=3)
