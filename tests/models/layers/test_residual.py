import pytest
import torch
from torch.testing import assert_close

from models.layers.residual import DropPath, LayerScale


def test_dropping_a_branch_keeps_its_expectation_and_whole_samples() -> None:
    torch.manual_seed(0)
    y = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert_close(y.unique(), torch.tensor([0, 4 / 3]))
    assert (y.flatten(1).amax(1) == y.flatten(1).amin(1)).all()
    assert y.mean() == pytest.approx(1, abs=0.05)


def test_nothing_is_dropped_in_eval() -> None:
    x = torch.randn(2, 3, 4)
    assert_close(DropPath(0.9).eval()(x), x)
    with pytest.raises(ValueError, match=r"drop_path must be in \[0, 1\), got 1"):
        DropPath(1.0)


def test_layer_scale_starts_as_a_factor() -> None:
    assert_close(LayerScale(4, 0.1)(torch.ones(1, 2, 4)), torch.full((1, 2, 4), 0.1))
