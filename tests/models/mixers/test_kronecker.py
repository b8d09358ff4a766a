import pytest

from models.mixers.kronecker import KroneckerAttention

SMALL = [{"spectral": 2, "rank": 2}]


def test_rejects_channels_of_a_band_that_do_not_divide_a_head() -> None:
    with pytest.raises(ValueError, match="spectral must divide head_dim, got head_dim=16, spectral=3"):
        KroneckerAttention(32, spectral=3)
