import pytest

from models.mixers.mila import MambaLikeAttention

SMALL = [{"head_dim": 8}]


def test_rejects_channels_that_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="dim must be a multiple of 4 to turn its channels, got 6"):
        MambaLikeAttention(6, head_dim=3)
