import pytest

from models.mixers.outlook import OutlookAttention

SMALL = [{"head_dim": 8}, {"head_dim": 8, "stride": 1}]


def test_wants_windows_with_a_middle_that_leave_no_gap() -> None:
    for kernel, stride in ((2, 1), (3, 4)):
        with pytest.raises(ValueError, match=f"0 < stride <= kernel, got {kernel}, {stride}"):
            OutlookAttention(32, kernel=kernel, stride=stride)
